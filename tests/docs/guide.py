#!/usr/bin/env python3
"""Runs the programs of README, guide and manual pages, and compares texts of the guide with the sources.

Each program ends with 0. The texts of errors that docs/guide/errors.md lists are in the sources of the library, and
each text of a ring that cannot be created is in the list. The three lists of chapters are complete.
"""
import argparse
import importlib.util
import pathlib
import re
import subprocess
import sys
import tempfile

from programs import blocks

SECONDS_MAX = 60
ROW = re.compile(r'^\| `([^`]*)` \|', re.M)
LITERAL = re.compile(r'"((?:[^"\\]|\\.)*)"')


def run_programs(program):
    """Programs that fail."""
    places = subprocess.run([program], stdout=subprocess.PIPE, text=True, check=True, timeout=SECONDS_MAX).stdout.splitlines()
    if not places:
        yield 'no document has a program'
    for number, place in enumerate(places):
        try:
            done = subprocess.run([program, str(number)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False,
                                  timeout=SECONDS_MAX)
        except subprocess.TimeoutExpired:
            yield f'{place}: the program does not end'
            continue
        if done.returncode != 0:
            yield f'{place}: the program ends with {done.returncode}: {done.stderr}'


def run_c_programs(documents, tools):
    """Programs in C that do not compile as C11, or fail."""
    for document in documents:
        for language, line, code in blocks(document):
            if language != 'c':
                continue
            with tempfile.TemporaryDirectory() as folder:
                source = pathlib.Path(folder) / 'program.c'
                source.write_text(code)
                built = subprocess.run([*tools.cc, '-std=c11', '-Wall', '-Wextra', '-Wpedantic', '-Werror', '-I', tools.include,
                                        '-o', source.with_suffix(''), source, tools.link_with, '-luring', '-lstdc++', '-pthread'],
                                       stderr=subprocess.PIPE, text=True, check=False, timeout=SECONDS_MAX)
                if built.returncode != 0:
                    yield f'{document}:{line}: does not compile:\n{built.stderr}'
                elif subprocess.run([source.with_suffix('')], check=False, timeout=SECONDS_MAX).returncode != 0:
                    yield f'{document}:{line}: the program fails'


def ring_errors(root):
    """Texts of explain_ring_failure() that errors.md does not list, and the other way round."""
    source = (root / 'runtime/features.cpp').read_text()
    body = source[source.index('std::string explain_ring_failure'):source.index('std::string describe')]
    spoken = ''.join(LITERAL.findall(body))
    errors = (root / 'docs/guide/errors.md').read_text()
    section = errors[errors.index('## A ring cannot'):errors.index('## Results')]
    rows = ROW.findall(section)
    for text in rows:
        if text not in spoken:
            yield f'docs/guide/errors.md: runtime/features.cpp has no text "{text}"'
    cases = len(re.findall(r'return begin', body)) - 1  # the last one is any other errno
    if len(rows) != cases:
        yield f'docs/guide/errors.md: lists {len(rows)} errors of a ring; runtime/features.cpp has {cases}'


def html_chapters(root):
    """The chapters of which docs/guide/build_html.py makes pages."""
    found = importlib.util.spec_from_file_location('build_html', root / 'docs/guide/build_html.py')
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return [f'{name}.md' for name in module.CHAPTERS]


def lists(root, documents, html):
    """Chapters that the index, meson.build or build_html.py does not name, and names without a chapter."""
    chapters = {chapter.name for chapter in (root / 'docs/guide').glob('*.md')}
    text = (root / 'docs/guide/README.md').read_text()
    named = {
        'README.md': {'README.md', *re.findall(r'\]\(([^/()#]*\.md)\)', text)},
        'meson.build': {document.name for document in documents if document.parent.name == 'guide'},
        'build_html.py': set(html),
    }
    for file, names in named.items():
        for name in sorted(chapters - names):
            yield f'docs/guide/{file} does not name {name}'
        for name in sorted(names - chapters):
            yield f'docs/guide/{file} names {name}, which is not there'


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--root', type=pathlib.Path, required=True)
    parser.add_argument('--programs', required=True)
    parser.add_argument('--include', required=True)
    parser.add_argument('--link-with', required=True)
    parser.add_argument('--cc', nargs='+', required=True)
    parser.add_argument('--documents', type=pathlib.Path, nargs='+', required=True)
    given = parser.parse_args()
    faults = [*run_programs(given.programs), *run_c_programs(given.documents, given), *ring_errors(given.root),
              *lists(given.root, given.documents, html_chapters(given.root))]
    print('\n'.join(faults))
    return 1 if faults else 0


if __name__ == '__main__':
    sys.exit(main())
