#!/usr/bin/env python3
"""Text that belongs to one machine or one day, and is not kept in files; the end of files.

  words.py --count FOLDER...   prints how often each rule of language.py and each banned expression
                               is broken in a folder
  words.py --list FOLDER...    prints every finding
"""
import collections
import pathlib
import re
import sys

from language import findings_of, is_below, is_exempt
from tree import Tree

# A home or a mounted folder of somebody, on whatever system.
SOMEBODYS_PATH = re.compile(r'(?<![\w.>)}*/-])(?:/(?:home|Users)/[a-z]\w*/|/root/\w|/mnt/\w+/'
                            r'|[A-Z]:\\+Users\\)')
ADDRESS = re.compile(r'https?://([A-Za-z0-9.-]+)')
# Documents and scripts link to these only: a mirror, a proxy or a host of one's own is left out.
PUBLIC_HOSTS = re.compile(
    r'(?:^|\.)(?:github\.com|kernel\.org|man7\.org|debian\.org|rfc-editor\.org|ietf\.org|w3\.org'
    r'|mesonbuild\.com|keepachangelog\.com|semver\.org|cppreference\.com|gcc\.gnu\.org|llvm\.org'
    r'|lwn\.net|lkml\.org|nginx\.org|lighttpd\.net|example|example\.(?:com|org|net)|localhost)$'
    r"|^127(?:$|\.)")
UNFINISHED = re.compile(r'\b(?:FIXME|XXX)\b|\bTODO\b(?!\((?:perf|port|test)\): )')
CODE_AND_DATA = ('.cpp', '.hpp', '.c', '.h', '.html', '.svg', '.json')
# Not .scd: scdoc indents by tabs.
TEXT = ('.cpp', '.hpp', '.c', '.h', '.md', '.py', '.build', '.txt', '.html', '.css', '.js')


def own_places(tree):
    """The path of this checkout and of the user's home: no file may know them."""
    return {p for p in (str(tree.root), str(pathlib.Path.home())) if p.count('/') > 1}


def words(tree):
    """No path or host of one machine, no loose ends, no stray white space."""
    places = own_places(tree)
    for name in tree.files:
        text = tree.text(name)
        if not text or name.startswith('tests/tidy/'):
            continue
        # Tests make hosts up; code names those of requests.
        prose = not name.startswith('tests/') and not name.endswith(CODE_AND_DATA)
        for number, line in enumerate(text.split('\n'), 1):
            if SOMEBODYS_PATH.search(line) or any(p in line for p in places):
                yield name, number, 'a path of one machine'
            if prose:
                for host in ADDRESS.findall(line):
                    if not PUBLIC_HOSTS.search(host):
                        yield name, number, f'an address that is not known here: {host}'
            if name.endswith(('.cpp', '.hpp', '.c', '.h', '.py')) and UNFINISHED.search(line):
                yield name, number, 'open work is written TODO(perf|port|test): what, and when'
            if line != line.rstrip():
                yield name, number, 'white space at the end of the line'
            if '\t' in line and name.endswith(TEXT):
                yield name, number, 'a tab'
        if not text.endswith('\n') or text.endswith('\n\n'):
            yield name, text.count('\n') + 1, 'a file ends with one end of line'


def main(option, *folders):
    tree = Tree(pathlib.Path(__file__).parents[2])
    counts = collections.Counter()
    for name in tree.files:
        if is_exempt(name) or not any(is_below(name, folder) for folder in folders):
            continue
        for rule, line, what in findings_of(name, tree.text(name)):
            if option == '--list':
                print(f'{name}:{line}: {what} ({rule})')
            counts[rule] += 1
            if rule == 'banned':
                counts[f'banned, write {what.split(": write ")[1]}'] += 1
    for rule, count in sorted(counts.items()):
        print(f'{count:6} {rule}')
    return 0


if __name__ == '__main__':
    if len(sys.argv) < 3 or sys.argv[1] not in ('--count', '--list'):
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
