#!/usr/bin/env python3
"""The manual pages keep their word.

Each function of kevent.h has a page with its prototype, each name that the header defines is explained, each option of
httpd is there, what SEE ALSO names exists, groff has nothing to complain of, the rendered page shows each line of code
as it was meant, and each example is a C11 program that ends well. The declarations in the pages for C++ are in the
headers that they include; their examples are among the programs of the test `guide`.
"""
import argparse
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

FUNCTION = re.compile(r'^(?:int|long) (\w+)\(.*?\);', re.M | re.S)
CONSTANT = re.compile(r'^#define ((?:KEVENT|SIGEV)_\w+) ', re.M)
BLOCK = re.compile(r'^```\n(.*?)^```', re.M | re.S)
REFERENCE = re.compile(r'\*(\w+)\*\((\d)\)')
OPTION = re.compile(r'(?<![\w-])--[a-z][a-z-]+')
OPTION_ENTRY = re.compile(r'^(?:\*-\w\*, )?\*(--[a-z-]+)\*', re.M)
SECTIONS_OF_A_CALL = ['NAME', 'LIBRARY', 'SYNOPSIS', 'DESCRIPTION', 'RETURN VALUE', 'ERRORS', 'SEE ALSO']
LONE_BACKSLASH = re.compile(r'(?<!\\)(?:\\\\)*\\(?!\\)')
OURS = re.compile(r'kevent|aio_sendfile|kevring')
SECONDS_MAX = 60


class Page:
    """One source: its sections in order, and the text of each."""

    def __init__(self, source):
        self.name = source.name.removesuffix('.scd')
        self.text = source.read_text()
        parts = re.split(r'^# (.*)\n', self.text, flags=re.M)
        self.sections = dict(zip(parts[1::2], parts[2::2]))
        self.order = parts[1::2]

    def blocks(self, section=None):
        """The code blocks of a section, or of the page, as a reader of the rendered page must see them."""
        text = self.text if section is None else self.sections.get(section, '')
        return [code.replace('\\\\', '\\') for code in BLOCK.findall(text)]

    def is_cxx(self):
        """Whether it is a page of the C++ interface."""
        return self.name == 'kevring.3' or self.name.startswith('kevring_')

    def examples(self):
        """The programs in C that it shows."""
        if self.is_cxx():
            return []
        return [code for code in self.blocks('EXAMPLES') if 'int main' in code]


def squeezed(code):
    """Code without white space, so that it can be broken anywhere."""
    return re.sub(r'\s', '', code)


def calls(pages, header):
    """Faults of the pages of functions."""
    for found in FUNCTION.finditer(header):
        page = pages.get(f'{found[1]}.3')
        if page is None:
            yield f'{found[1]}: has no page'
            continue
        if squeezed(found[0]) not in squeezed(page.sections.get('SYNOPSIS', '')):
            yield f'{page.name}: its synopsis is not the prototype in kevent.h'
        there = [name for name in page.order if name in SECTIONS_OF_A_CALL]
        if there != SECTIONS_OF_A_CALL:
            yield f'{page.name}: its sections are {", ".join(page.order)}'
    everything = '\n'.join(page.text for page in pages.values())
    for name in CONSTANT.findall(header):
        if not re.search(rf'\b{name}\b', everything):
            yield f'{name}: no page explains it'


def declarations(page, include):
    """Declarations in the synopsis of a page for C++ that its headers do not have."""
    synopsis = page.blocks('SYNOPSIS')[0]
    headers = ''
    for name in re.findall(r'^#include <(.*)>', synopsis, re.M):
        headers += squeezed((pathlib.Path(include) / name).read_text())
    for declaration in re.split(r'\n\s*\n|;\n', re.sub(r'^#include .*', '', synopsis, flags=re.M)):
        wanted = squeezed(declaration).rstrip(';')
        if wanted and wanted not in headers:
            yield f'{page.name}: its headers do not declare: {declaration.strip()}'


def references(pages):
    """Names of pages that are not there."""
    for page in pages.values():
        if page.order[-1] != 'SEE ALSO':
            yield f'{page.name}: ends without SEE ALSO'
        for name, section in REFERENCE.findall(page.text):
            if OURS.match(name) and f'{name}.{section}' not in pages:
                yield f'{page.name}: names {name}({section}), which is not there'


def options(page, httpd):
    """Options of the program that its page does not have, and the other way round."""
    said = subprocess.run([httpd, '--help'], stdout=subprocess.PIPE, text=True, check=True, timeout=SECONDS_MAX).stdout
    offered = set(OPTION.findall(said))
    explained = set(OPTION_ENTRY.findall(page.sections['OPTIONS']))
    for name in sorted(offered - explained):
        yield f'{page.name}: does not explain {name}'
    for name in sorted(explained - offered):
        yield f'{page.name}: explains {name}, which is no option'


def lone_backslashes(page):
    """Backslashes in code blocks that scdoc drops: it prints the character that follows one."""
    for code in BLOCK.findall(page.text):
        for line in code.splitlines():
            if LONE_BACKSLASH.search(line):
                yield f'{page.name}: scdoc drops a backslash of this line; write two: {line.strip()}'


def rendered_code(page, built):
    """Lines of code that the rendered page shows otherwise than they were meant."""
    text = subprocess.run(['groff', '-t', '-man', '-Tascii', '-P-cbou', '-rcR=1', '-rLL=160n', built],
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True,
                          timeout=SECONDS_MAX).stdout
    shown = [line.strip() for line in text.splitlines()]
    for code in page.blocks():
        wanted = [line.strip() for line in code.splitlines()]
        places = [at for at, line in enumerate(shown) if line == wanted[0]]
        if any(shown[at:at + len(wanted)] == wanted for at in places):
            continue
        lost = [line for line in wanted if line not in shown]
        yield f'{page.name}: the rendered page changes this code: {lost[0] if lost else wanted[0]}'


def warnings(page):
    """The messages of groff for a built page."""
    run = subprocess.run(['groff', '-t', '-man', '-ww', '-Tutf8', '-z', page], stdout=subprocess.DEVNULL,
                         stderr=subprocess.PIPE, text=True, check=False, timeout=SECONDS_MAX)
    for line in run.stderr.splitlines():
        yield f'{page.name}: {line}'


def examples(pages, with_tools):
    """Examples that do not compile as C11, or fail."""
    count = 0
    with tempfile.TemporaryDirectory() as folder:
        for page in pages.values():
            for code in page.examples():
                count += 1
                source = pathlib.Path(folder) / f'{page.name}-{count}.c'
                source.write_text(code)
                program = source.with_suffix('')
                built = subprocess.run(
                    [*with_tools.cc, '-std=c11', '-Wall', '-Wextra', '-Wpedantic', '-Werror', '-I', with_tools.include,
                     '-o', program, source, with_tools.link_with],
                    stderr=subprocess.PIPE, text=True, check=False, timeout=SECONDS_MAX)
                if built.returncode != 0:
                    yield f'{page.name}: its example does not compile:\n{built.stderr}'
                    continue
                status = subprocess.run([program], stdout=subprocess.DEVNULL, check=False,
                                        timeout=SECONDS_MAX).returncode
                if status != 0:
                    yield f'{page.name}: its example ends with {status}'
    if count == 0:
        yield 'no page has an example'


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--sources', type=pathlib.Path, nargs='+', required=True)
    parser.add_argument('--pages', type=pathlib.Path, nargs='+', required=True)
    parser.add_argument('--header', type=pathlib.Path, required=True)
    parser.add_argument('--include', required=True)
    parser.add_argument('--link-with', required=True)
    parser.add_argument('--cc', nargs='+', required=True)
    parser.add_argument('--httpd')
    given = parser.parse_args()

    pages = {page.name: page for page in map(Page, given.sources)}
    faults = [*calls(pages, given.header.read_text()), *references(pages), *examples(pages, given)]
    for page in pages.values():
        faults += lone_backslashes(page)
        if page.is_cxx():
            faults += declarations(page, given.include)
    if given.httpd:
        faults += options(pages['kevring-httpd.1'], given.httpd)
    if shutil.which('groff'):
        for page in given.pages:
            faults += warnings(page)
            faults += rendered_code(pages[page.name], page)
    print('\n'.join(faults))
    return 1 if faults else 0


if __name__ == '__main__':
    sys.exit(main())
