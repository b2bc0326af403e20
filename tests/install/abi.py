#!/usr/bin/env python3
"""Compares the C interface with the one that programs were built for, by abidiff.

  abi.py HEADER BASELINE            fails where a program built for BASELINE would break
  abi.py --write HEADER BASELINE    writes BASELINE, after an addition

Both sides are a library that has each function of kevent.h, and its types, with an empty body: so the comparison does
not depend on the options of a build. A test of the installed library compares its symbols with the header.
CC is the compiler.
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

SKIPPED = 77
ABIDIFF_FAILED = 3  # ABIDIFF_ERROR and ABIDIFF_USAGE_ERROR
PROTOTYPE = re.compile(r'^(?:int|long) \w+\([^;]*\);', re.M)
CHANGED = re.compile(r'summary:.*[1-9]\d* (?:Removed|Changed)')
TYPE = re.compile(r'^struct (\w+) \{', re.M)


def stub(header, folder):
    """A library with the functions of a header."""
    text = header.read_text()
    source = pathlib.Path(folder) / 'stub.c'
    functions = [prototype[:-1] + ' { return 0; }' for prototype in PROTOTYPE.findall(text)]
    # A structure that only a pointer reaches is compared too.
    variables = [f'struct {name}* kevring_abi_{name};' for name in TYPE.findall(text)]
    source.write_text('\n'.join([f'#include "{header}"', *functions, *variables, '']))
    library = source.with_suffix('.so')
    subprocess.run([*os.environ.get('CC', 'cc').split(), '-std=gnu11', '-g', '-fPIC', '-shared', '-w', '-o', library, source.name],
                   check=True, cwd=folder)
    return library


def main(arguments):
    writes = arguments[:1] == ['--write']
    header, baseline = (pathlib.Path(name).resolve() for name in arguments[writes:])
    for tool in 'abidw', 'abidiff':
        if not shutil.which(tool):
            print(f'skipped: {tool} is not installed; on Debian it is in the package abigail-tools')
            return SKIPPED
    with tempfile.TemporaryDirectory() as folder:
        library = stub(header, folder)
        if writes:
            return subprocess.run(['abidw', '--no-corpus-path', '--no-show-locs', '--no-comp-dir-path',
                                   '--out-file', baseline, library], check=False).returncode
        compared = subprocess.run(['abidiff', baseline, library], stdout=subprocess.PIPE, text=True, check=False)
    if compared.returncode == 0:
        return 0
    if compared.returncode & ABIDIFF_FAILED or compared.returncode < 0:
        sys.exit('abidiff failed; see its message above')
    print(compared.stdout)
    print('an addition: write the baseline again, and give a new call a new version in kevent/kevring.map'
          if not CHANGED.search(compared.stdout) else 'a change that breaks programs which were built before')
    return 1


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
