#!/usr/bin/env python3
"""Compares debian/ with the tree: its version, its names and its files. packaging/build-deb builds the packages.

  debian_folder.py ROOT VERSION
"""
import pathlib
import re
import sys


def faults(root, version):
    debian = root / 'debian'
    changelog = (debian / 'changelog').read_text()
    first = re.match(r'kevring \((.*?)\)', changelog)
    if not first or first[1] != version:
        yield f'debian/changelog: its first version is not {version}'
    packages = re.findall(r'^Package: (.*)$', (debian / 'control').read_text(), re.M)
    soname = 'libkevring' + version.split('.')[0]
    if sorted(packages) != sorted([soname, 'libkevring-dev', 'kevring-httpd']):
        yield f'debian/control: its packages are {", ".join(packages)}'
    for package in packages:
        if not (debian / f'{package}.install').exists():
            yield f'debian/{package}.install is missing'
    for listing in [*debian.glob('*.examples'), *debian.glob('*.docs')]:
        for name in listing.read_text().split():
            if not list(root.glob(name)):
                yield f'{listing.name}: {name} is not there'
    license_text = ''.join((root / 'LICENSE').read_text().split())
    copyright_text = re.sub(r'^ \.?', '', (debian / 'copyright').read_text(), flags=re.M)
    if license_text.split('authors', 1)[1] not in ''.join(copyright_text.split()):
        yield 'debian/copyright: its text is not that of LICENSE'
    for name in [debian / 'control', debian / 'copyright', root / 'meson.build']:
        for address in re.findall(r'https?://\S+', name.read_text()):
            if not address.startswith('https://www.debian.org/'):
                yield f'{name.relative_to(root)}: the address {address} is not one of those allowed'


def main(root, version):
    found = list(faults(pathlib.Path(root), version))
    print('\n'.join(found))
    return 1 if found else 0


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
