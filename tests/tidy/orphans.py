"""Nothing lies about: each source, test and header has its place in a build file."""
import posixpath
import re

from tree import LIBRARY

QUOTED = re.compile(r"'([^'\n]*\.(?:cpp|hpp|c|h))'")
STEM = re.compile(r"'(\w+)'")  # a loop over names adds '.cpp' itself
INSTALLED = re.compile(r'install_headers\((.*?)\)', re.S)


def without_comments(text):
    return re.sub(r'#[^\n]*', '', text)


def listed_files(tree):
    """The C and C++ files that build files name, and those of them that are installed."""
    listed, installed = set(), set()
    for name in tree.files:
        if posixpath.basename(name) != 'meson.build':
            continue
        folder = posixpath.dirname(name)
        text = without_comments(tree.text(name))
        listed |= {posixpath.normpath(posixpath.join(folder, f)) for f in QUOTED.findall(text)}
        if "+ '.cpp'" in text:
            listed |= {posixpath.join(folder, f + '.cpp') for f in STEM.findall(text)}
        for call in INSTALLED.findall(text):
            installed |= {posixpath.normpath(posixpath.join(folder, f))
                          for f in QUOTED.findall(call)}
    return listed, installed


def orphans(tree):
    """Each source is built, each public header installed, each private header included."""
    listed, installed = listed_files(tree)
    public = set(tree.public_headers())
    included = set()
    for name in tree.code():
        for _, target in tree.includes(name):
            included.add(target.removeprefix('kevring/'))
            included.add(posixpath.normpath(posixpath.join(posixpath.dirname(name), target)))
    for name in tree.code():
        if name.endswith(('.cpp', '.c')):
            if name not in listed:
                yield name, 1, 'no meson.build names it: it is not built'
        elif name in public:
            if name not in installed:
                yield name, 1, 'a public header that no install_headers() names'
        elif name not in included and name not in listed:
            yield name, 1, 'a private header that nothing includes'
    # A header that installed ones include is installed itself, private or not.
    needed = set()
    for name in sorted(installed):
        if name not in tree.files:
            yield name, 1, 'installed, but not there'
            continue
        for line, target in tree.includes(name):
            own = target.removeprefix('kevring/')
            if own != target and own in tree.files:
                needed.add(own)
                if own not in installed:
                    yield name, line, f'an installed header includes <{target}>, which is not'
    for name in sorted(installed - public - needed):
        if name.split('/')[0] in LIBRARY and name in tree.files:
            yield name, 1, 'a private header that is installed, and no installed header needs it'
