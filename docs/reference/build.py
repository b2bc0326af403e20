#!/usr/bin/env python3
"""Makes the API reference with doxygen, and fails at the first warning.

  build.py ROOT OUTPUT VERSION

Without doxygen the script prints the reason and makes nothing.
"""
import pathlib
import shutil
import subprocess
import sys


def main(root, output, version):
    if not shutil.which('doxygen'):
        print('reference: skipped: doxygen is not installed; on Debian it is in the package doxygen')
        return 0
    output = pathlib.Path(output)
    output.mkdir(parents=True, exist_ok=True)
    text = (pathlib.Path(root) / 'docs/reference/Doxyfile.in').read_text()
    for name, value in {'ROOT': root, 'OUTPUT': str(output), 'VERSION': version, 'PYTHON': sys.executable}.items():
        text = text.replace(f'@{name}@', value)
    made = subprocess.run(['doxygen', '-'], input=text, text=True, check=False)
    warnings = (output / 'warnings.txt').read_text().splitlines()
    print('\n'.join(warnings[:40]))
    print(f'reference: {len(warnings)} warnings, {output / "html/index.html"}')
    return 1 if warnings or made.returncode != 0 else 0


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
