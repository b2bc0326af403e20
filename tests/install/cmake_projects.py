#!/usr/bin/env python3
"""Builds projects of users with CMake: one finds an installed kevring, one builds it by FetchContent.

  cmake_projects.py [--full] SOURCE BUILD MAIN.cpp      CXX is the compiler; default: c++

The library of the second project has the sources that meson's has. Compiling them all again takes minutes, so that
one of them is compiled, and the program is linked with meson's library; --full compiles all of them.
"""
import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

SKIPPED = 77
SECONDS_MAX = 900
OUTPUT = re.compile(r' -o (\S+)')


def run(*command, **options):
    """The standard output of a command that succeeds."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
                          timeout=SECONDS_MAX, **options)
    if done.returncode != 0:
        sys.exit(f'{" ".join(map(str, command))} ended with {done.returncode}:\n{done.stdout}')
    return done.stdout


def configured(project, build, **variables):
    """Configures a project for ninja; without optimization, as that it builds is the question."""
    definitions = [f'-D{name}={value}' for name, value in variables.items()]
    run('cmake', '-G', 'Ninja', '-S', project, '-B', build, '-DCMAKE_EXPORT_COMPILE_COMMANDS=ON',
        '-DCMAKE_CXX_COMPILER_LAUNCHER=' + ';'.join(COMPILER[:-1]), f'-DCMAKE_CXX_COMPILER={COMPILER[-1]}', *definitions)


def library_of(build):
    """The entry that meson has for the library."""
    targets = json.loads(run('meson', 'introspect', '--targets', build))
    return next(target for target in targets if target['name'] == 'kevring' and 'library' in target['type'])


def find_package(projects, build, main_cpp, work):
    """An installed copy, from a folder that is not the prefix it was built for."""
    prefix = work / 'dest' / 'usr'
    run('meson', 'install', '-C', build, '--no-rebuild', '--quiet', '--destdir', work / 'dest')
    config = next((work / 'dest').rglob('kevringConfig.cmake'))
    configured(projects / 'find_package', work / 'find', MAIN_CPP=main_cpp, kevring_DIR=config.parent)
    run('ninja', '-C', work / 'find')
    for program in 'shared', 'static':
        said = run(work / 'find' / program)
        if not said.startswith('0.'):
            sys.exit(f'find_package: {program} prints {said!r} in {prefix}')


def fetch_content(projects, source, library, main_cpp, work, full):
    """The tree as a part of another project."""
    build = work / 'fetch'
    configured(projects / 'fetch_content', build, MAIN_CPP=main_cpp, KEVRING_SOURCE=source)
    commands = json.loads((build / 'compile_commands.json').read_text())
    compiled = {pathlib.Path(entry['file']).resolve() for entry in commands} - {main_cpp.resolve()}
    wanted = {pathlib.Path(name).resolve() for group in library['target_sources'] for name in group['sources']}
    if compiled != wanted:
        sys.exit('CMakeLists.txt and meson.build differ: ' + ', '.join(sorted(str(name) for name in compiled ^ wanted)))
    if full:
        run('ninja', '-C', build, 'outside')
        said = run(build / 'outside')
    else:
        objects = [next(OUTPUT.search(entry['command'])[1] for entry in commands if entry['file'].endswith(name))
                   for name in (main_cpp.name, 'runtime/version.cpp')]
        run('ninja', '-C', build, *objects)
        static = next(name for name in library_files(library) if name.endswith('.a'))
        run(*COMPILER, build / objects[0], static, '-luring', '-pthread', '-o', work / 'outside')
        said = run(work / 'outside')
    if not said.startswith('0.'):
        sys.exit(f'FetchContent: the program prints {said!r}')


def library_files(library):
    """The files of meson's library; of both, if it makes both."""
    for name in library['filename']:
        yield name
        yield str(pathlib.Path(name).with_name('libkevring.a'))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--full', action='store_true')
    for name in 'source', 'build', 'main_cpp':  # absolute: the programs below run in other folders
        parser.add_argument(name, type=lambda text: pathlib.Path(text).resolve())
    given = parser.parse_args()
    if not shutil.which('cmake'):
        print('skipped: cmake is not installed')
        return SKIPPED
    projects = pathlib.Path(__file__).parent
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        find_package(projects, given.build, given.main_cpp, work)
        fetch_content(projects, given.source, library_of(given.build), given.main_cpp, work, given.full)
    return 0


if __name__ == '__main__':
    COMPILER = os.environ.get('CXX', 'c++').split()
    sys.exit(main())
