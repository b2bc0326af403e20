#!/usr/bin/env python3
"""Collects the C++ programs of README, guide and manual pages in one source, which is compiled once.

  programs.py OUTPUT.cpp DOCUMENT...           documents are Markdown (.md) or scdoc (.scd)
  programs.py --alone INCLUDE DOCUMENT...      checks that each program compiles by itself; CXX is the compiler

Each program becomes a namespace, and its main() a function. The program that is made lists their places without an
argument, and runs the one of a number with it. A block after a line `<!-- FILE -->` is the text of that file, which has
its own build. The test `guide` runs the programs, and those in C. All programs of the source share their includes; --alone, which
.ci/weekly runs, finds a program that lacks one.
"""
import os
import pathlib
import re
import subprocess
import sys

BLOCK = re.compile(r'^```(\w*)\n(.*?)^```', re.M | re.S)
SHOWN = re.compile(r'<!-- \S+ -->\n$')
INCLUDE = re.compile(r'^#include .*\n', re.M)
MAIN = re.compile(r'^int main\(\)', re.M)


def blocks(document):
    """The (language, line, text) of each block of code that has no file of its own."""
    text = document.read_text()
    for block in BLOCK.finditer(text):
        language, code = block[1], block[2]
        if SHOWN.search(text[:block.start()]):
            continue
        if document.suffix == '.scd':
            is_cxx = document.name.startswith('kevring_') or document.name == 'kevring.3.scd'
            language = 'cpp' if is_cxx and 'int main' in code else ''
            code = code.replace('\\\\', '\\')
        yield language, text.count('\n', 0, block.start()) + 2, code


def programs(documents):
    """The (document, line, code) of each program in C++."""
    for document in documents:
        for language, line, code in blocks(document):
            if language == 'cpp':
                if not MAIN.search(code):
                    sys.exit(f'{document}:{line}: this code is no program; end it with int main()')
                yield document, line, code


def source(documents):
    """The text of the source."""
    found = list(programs(documents))
    includes = dict.fromkeys(line for _, _, code in found for line in INCLUDE.findall(code))
    own = [line for line in includes if '<kevring/' in line]
    parts = [''.join([*own, *(line for line in includes if line not in own)]),
             '#include <cstdio>\n#include <cstdlib>\n#include <exception>\n']
    for number, (document, line, code) in enumerate(found):
        body = MAIN.sub('int run_program()', INCLUDE.sub('\n', code))
        if 'return' not in body[body.index('int run_program()'):]:
            sys.exit(f'{document}:{line}: main() returns nothing; return 0 or 1, so that a test can tell')
        parts.append(f'namespace program_{number} {{\n#line {line} "{document}"\n{body}}}\n')
    cases = ''.join(f'        case {number}: return program_{number}::run_program();\n' for number in range(len(found)))
    places = ''.join(f'    std::puts("{document}:{line}");\n' for document, line, _ in found)
    parts.append('#line 1 "the driver"\nnamespace {\nint run_by_number(int number) {\n    switch (number) {\n' + cases +
                 '        default: return 2;\n    }\n}\nvoid list() {\n' + places + '}\n}  // namespace\n'
                 'int main(int argc, char** argv) try {\n    if (argc == 2) return run_by_number(std::atoi(argv[1]));\n'
                 '    list();\n    return 0;\n} catch (const std::exception& failure) {\n'
                 '    std::fprintf(stderr, "%s\\n", failure.what());\n    return 1;\n}\n')
    return '\n'.join(parts)


def check_alone(include, documents):
    """1 if a program does not compile with its own includes."""
    failed = False
    for document, line, code in programs(documents):
        done = subprocess.run([*os.environ.get('CXX', 'c++').split(), '-std=c++20', '-D_GNU_SOURCE', '-fsyntax-only', '-I', include,
                               '-x', 'c++', '-'], input=f'#line {line} "{document}"\n{code}', text=True, check=False)
        failed = failed or done.returncode != 0
    return 1 if failed else 0


def main(output, *names):
    pathlib.Path(output).write_text(source([pathlib.Path(name) for name in names]))


if __name__ == '__main__':
    if sys.argv[1:2] == ['--alone']:
        sys.exit(check_alone(sys.argv[2], [pathlib.Path(name) for name in sys.argv[3:]]))
    main(*sys.argv[1:])
