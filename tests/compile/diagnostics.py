#!/usr/bin/env python3
"""Compares the diagnostics of the compilers with the marks in sources.

  diagnostics.py INCLUDE SOURCE... -- COMPILER...

INCLUDE is the folder with kevring/. Every line of a SOURCE that ends with the comment `// warning`
or `// error` must have such a diagnostic, and no other line may have one. `// warning unless g++ 12`
stands for compilers that honour [[nodiscard]] of await_resume(): clang, and g++ from 14 on.
"""
import pathlib
import re
import shutil
import subprocess
import sys

MARK = re.compile(r'// (warning|error)( unless g\+\+ 12)?$')
FLAGS = ['-std=c++20', '-D_GNU_SOURCE', '-Wall', '-Wextra', '-fsyntax-only']


def honours_await_resume(compiler):
    """Whether [[nodiscard]] of await_resume() has an effect."""
    if 'clang' in pathlib.Path(compiler).name:
        return True
    version = subprocess.run([compiler, '-dumpversion'], capture_output=True, text=True, check=True)
    return int(version.stdout.split('.')[0]) >= 14


def expected(source, compiler):
    """The (line, kind) of every mark that holds for `compiler`."""
    marks = set()
    for number, line in enumerate(pathlib.Path(source).read_text().split('\n'), 1):
        mark = MARK.search(line)
        if mark and (not mark[2] or honours_await_resume(compiler)):
            marks.add((number, mark[1]))
    return marks


def reported(source, compiler, include):
    """The (line, kind) of every diagnostic in `source`, and the output of the compiler."""
    output = subprocess.run([compiler, *FLAGS, '-I', include, source], capture_output=True,
                            text=True, check=False).stderr
    place = re.compile(re.escape(source) + r':(\d+):\d+: (warning|error):')
    return {(int(m[1]), m[2]) for m in place.finditer(output)}, output


def main(include, *rest):
    sources, compilers = rest[:rest.index('--')], rest[rest.index('--') + 1:]
    failed = False
    for compiler in filter(shutil.which, compilers):
        for source in sources:
            want = expected(source, compiler)
            got, output = reported(source, compiler, include)
            for line, kind in sorted(want ^ got):
                failed = True
                state = 'is missing' if (line, kind) in want else 'is not marked'
                print(f'{source}:{line}: {compiler}: the {kind} {state}')
            if want != got:
                print(output)
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
