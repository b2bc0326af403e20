"""include/kevring/ of the tree equals the installed folder: <kevring/...> resolves without a build.

A link leads to each folder of the library, and kevring.hpp includes each public C++ header.
"""
import os

from tree import LIBRARY

HEADER = 'include/kevring/kevring.hpp'
# Asio takes seconds to compile: a program includes the headers that need all of it by name.
BY_NAME = 'net/asio/'


def lines_of(tree):
    """The includes that kevring.hpp has to contain, in their order."""
    return [f'#include <kevring/{name}>' for name in sorted(tree.public_headers())
            if name.endswith('.hpp') and not name.startswith(BY_NAME)]


def umbrella(tree):
    """The public include folder is complete."""
    for folder in LIBRARY:
        link = tree.root / 'include/kevring' / folder
        if not link.is_symlink() or os.readlink(link) != f'../../{folder}':
            yield f'include/kevring/{folder}', 1, f'no link to ../../{folder}; ln -s makes it'
    if HEADER not in tree.files:
        yield HEADER, 1, 'the file is missing'
        return
    wanted = [line.split('<')[1].rstrip('>') for line in lines_of(tree)]
    found = [(line, target) for line, target in tree.includes(HEADER)
             if target.startswith('kevring/')]
    targets = [target for _, target in found]
    for target in wanted:
        if target not in targets:
            yield HEADER, 1, f'a public header is missing; add #include <{target}>'
    for line, target in found:
        if target not in wanted:
            yield HEADER, line, f'<{target}> is not a public header; remove the line'
    kept = [target for target in targets if target in wanted]
    if kept != sorted(set(kept)):
        yield HEADER, 1, 'each public header is included once, in the order of the names'
