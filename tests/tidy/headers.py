#!/usr/bin/env python3
"""Compiles each header of the library alone, and twice in a row: with every compiler given what
users include, with the first one what only the library's own files do. Headers that users include
cause none of the warnings that their projects may turn into errors, and report a language older than
C++20 by one #error. The oldest clang that README names compiles the sources of the library as well.

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

from standard import LANGUAGE
from tree import LIBRARY, Tree

WARNINGS = ['-Wall', '-Wextra', '-Wpedantic', '-Werror']
USER_WARNINGS = ['-Wshadow', '-Wconversion', '-Wsign-conversion']
OLDEST_CLANG = 'clang++-14'
SAVED_AFTER = 20  # results, to the cache


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


def run(compiler, include, text, *arguments):
    return subprocess.run([compiler, *arguments, '-fsyntax-only', '-I', include, '-'], input=text,
                          capture_output=True, text=True, check=False)


def try_source(compiler, include, root, name):
    """Nothing, or what the compiler said of a source of the library."""
    said = subprocess.run(
        [compiler, '-std=c++20', *WARNINGS, '-D_GNU_SOURCE', '-DKEVRING_VERSION="0"', '-fsyntax-only',
         '-I', include, pathlib.Path(root) / name],
        capture_output=True, text=True, check=False)
    return said.stderr if said.returncode != 0 else None


def try_older_language(compiler, include, name):
    """Nothing, or what is wrong with the report of a compiler in C++17 mode."""
    said = run(compiler, include, f'#include <kevring/{name}>\n', '-x', 'c++', '-std=c++17')
    errors = [line for line in said.stderr.splitlines() if 'error:' in line]
    if said.returncode != 0 and len(errors) == 2 and 'kevring needs C++20; compile' in errors[0]:
        return None
    return 'in C++17, does not begin with the one #error of language.hpp:\n' + said.stderr[:2000]


def try_header(compiler, include, name, checks_language):
    """Nothing, or what the compiler said of a source that has the header's include, twice."""
    languages = [['-x', 'c++', '-std=c++20']]
    if name.endswith('.h'):
        languages.append(['-x', 'c', '-std=c11'])
    for language in languages:
        strict = USER_WARNINGS if is_public(name) else []
        said = run(compiler, include, f'#include <kevring/{name}>\n' * 2, *language, *WARNINGS, *strict)
        if said.returncode != 0:
            return said.stderr
    if checks_language and is_public(name) and name.endswith('.hpp'):
        return try_older_language(compiler, include, name)
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
    if OLDEST_CLANG in compilers:
        version = 'source' + version_of(OLDEST_CLANG)
        work += [(name, OLDEST_CLANG, fingerprint(tree, name, version)) for name in tree.files
                 if name.split('/')[0] in LIBRARY and name.endswith('.cpp')]
    todo = [job for job in work if job[2] not in passed]
    failures = []

    def save():
        cache_path.write_text(json.dumps(sorted(passed & {job[2] for job in work})))

    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for job, message in zip(todo, pool.map(
                lambda job: try_source(job[1], include, root, job[0]) if job[0].endswith('.cpp')
                else try_header(job[1], include, job[0], LANGUAGE in tree.files), todo)):
            if message is None:
                passed.add(job[2])
            else:
                failures.append((job[0], job[1], message))
            if len(passed) % SAVED_AFTER == 0:  # a run that is ended is continued by the next one
                save()
    save()
    return failures, len(todo)


def main(root, cache_path, *wanted):
    compilers = [c for c in wanted if shutil.which(c)]
    failures, compiled = check(root, cache_path, compilers)
    for name, compiler, message in failures:
        print(f'{name}: under {compiler}:\n{message}')
    print(f'{compiled} compiled, {len(failures)} failed, under', *compilers)
    return 1 if failures or not compilers else 0


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
