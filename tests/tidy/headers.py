#!/usr/bin/env python3
"""Compiles each header of the library alone, and twice in a row: with every compiler given what
users include, with the first one what only the library's own files do.

  headers.py ROOT CACHE COMPILER...

The include path is ROOT/include, without any build folder. A header whose text, and that of all headers of ours below it,
has passed before is not compiled again: CACHE remembers.
"""
import concurrent.futures
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys

from tree import LIBRARY, Tree

WARNINGS = ['-Wall', '-Wextra', '-Wpedantic', '-Werror']


def below(tree, name, seen=None):
    """A header, and all headers of ours that it includes."""
    seen = set() if seen is None else seen
    if name not in seen and name in tree.files:
        seen.add(name)
        for _, target in tree.includes(name):
            below(tree, target.removeprefix('kevring/'), seen)
    return seen


def fingerprint(tree, name, version):
    digest = hashlib.sha256(version.encode())
    for part in sorted(below(tree, name)):
        digest.update(part.encode() + b'\0' + tree.text(part).encode())
    return digest.hexdigest()


def try_header(compiler, include, name):
    """None, or the compiler's messages for a source that includes the header twice."""
    languages = [['-x', 'c++', '-std=c++20']]
    if name.endswith('.h'):
        languages.append(['-x', 'c', '-std=c11'])
    for language in languages:
        said = subprocess.run(
            [compiler, *language, *WARNINGS, '-fsyntax-only', '-I', include, '-'],
            input=f'#include <kevring/{name}>\n' * 2, capture_output=True, text=True, check=False)
        if said.returncode != 0:
            return said.stderr
    return None


def is_public(name):
    """Whether programs include it themselves."""
    return name.count('/') == 1 or name.split('/')[1] == 'operations'


def version_of(compiler):
    return subprocess.run([compiler, '--version'], capture_output=True, text=True,
                          check=True).stdout


def check(root, cache_path, compilers):
    """The (header, compiler, message) of each failure, and how many were compiled."""
    tree = Tree(root)
    include = str(tree.root / 'include')
    names = [n for n in tree.files
             if n.split('/')[0] in LIBRARY and n.endswith(('.hpp', '.h'))]
    cache_path = pathlib.Path(cache_path)
    passed = set(json.loads(cache_path.read_text())) if cache_path.exists() else set()
    work = []
    for compiler in compilers:
        version = compiler + version_of(compiler)
        work += [(name, compiler, fingerprint(tree, name, version)) for name in names
                 if compiler == compilers[0] or is_public(name)]
    todo = [job for job in work if job[2] not in passed]
    failures = []
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for job, message in zip(todo, pool.map(
                lambda job: try_header(job[1], include, job[0]), todo)):
            if message is None:
                passed.add(job[2])
            else:
                failures.append((job[0], job[1], message))
    cache_path.write_text(json.dumps(sorted(passed & {job[2] for job in work})))
    return failures, len(todo)


def main(root, cache_path, *wanted):
    compilers = [c for c in wanted if shutil.which(c)]
    failures, compiled = check(root, cache_path, compilers)
    for name, compiler, message in failures:
        print(f'{name}: not self-contained under {compiler}:\n{message}')
    print(f'{compiled} compiled, {len(failures)} failed, under', *compilers)
    return 1 if failures or not compilers else 0


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
