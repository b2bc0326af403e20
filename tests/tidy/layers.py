"""The includes that each folder may have, and the one file that includes a third-party library."""
import posixpath
import re

from tree import LIBRARY, PRIVATE

MAY_INCLUDE = {
    'runtime': {'runtime'},
    'net': {'runtime', 'net'},
    'kevent': {'runtime', 'kevent'},
    'sendfile': {'runtime', 'sendfile'},  # and kevent, for the calls of a queue in aio/
    'include': set(LIBRARY),
    'examples': set(LIBRARY),
    'tests': set(LIBRARY),
    'bench': set(LIBRARY),
}

# The part of sendfile/ that completes transfers as events; the rest includes runtime/ only, and not this.
QUEUE_USERS = 'sendfile/aio/'

# The folders of examples/httpd/: a file may include files of its own folder and of those in its row.
# http/ also includes no header of kevring: it is the protocol alone, without a loop.
HTTPD = 'examples/httpd/'
HTTPD_MAY_INCLUDE = {
    'http': set(),
    'content': {'http'},
    'observe': {'http'},
    'config': {'http', 'content', 'observe'},
    'serving': {'http', 'content', 'observe', 'config'},
    'control': {'http', 'content', 'observe', 'config', 'serving'},
}

# A foreign library: how its includes begin, and the files or folders that may write them.
FOREIGN = [
    ('liburing', r'liburing\b|linux/io_uring\.h', ['runtime/detail/uring.hpp', 'bench/']),
    ('Asio', r'asio(\.hpp|/)', ['net/asio_bridge.hpp', 'net/asio/', 'examples/', 'tests/', 'bench/']),
    ('OpenSSL', r'openssl/', ['net/detail/openssl.cpp', 'tests/', 'bench/']),
    ('range-v3', r'range/v3/', ['kevent/event_views.hpp', 'examples/', 'tests/', 'bench/']),
    ('Catch2', r'catch2/', ['tests/support/catch.hpp', 'tests/support/main.cpp']),
    ('Google Benchmark', r'benchmark/', ['bench/']),
    ('CLI11', r'CLI/', ['examples/', 'tests/', 'bench/']),
    ('fmt', r'fmt/', ['examples/', 'tests/', 'bench/']),
]


def allowed(name, places):
    return any(name.startswith(p) if p.endswith('/') else name == p for p in places)


def own_include(tree, name, folder, line, target):
    """What is wrong with an include of ours, or nothing."""
    if target == 'kevring/kevring.hpp':
        if folder in LIBRARY:
            yield line, 'the library includes the headers it needs, not kevring.hpp'
        return
    parts = target.split('/')
    if len(parts) < 3 or target[len('kevring/'):] not in tree.files:
        yield line, f'<{target}> is no header of this tree'
        return
    may_use_queue = name.startswith(QUEUE_USERS) and parts[1] == 'kevent'
    if parts[1] not in MAY_INCLUDE.get(folder, set()) and not may_use_queue:
        yield line, f'{folder}/ may not include {parts[1]}/'
    if target.startswith(f'kevring/{QUEUE_USERS}') and not name.startswith((QUEUE_USERS, 'tests/', 'bench/')):
        yield line, f'<{target}> is private to {QUEUE_USERS}'
    if folder == 'examples' and set(parts) & set(PRIVATE):
        yield line, f'an example uses public headers, not <{target}>'
    if set(parts) & {'sources', 'ports', 'paths'} and folder not in (parts[1], 'tests', 'bench'):
        yield line, f'<{target}> is private to {parts[1]}/'


def httpd_folder(name):
    """The folder of examples/httpd/ that holds the file; nothing for another file."""
    parts = name.removeprefix(HTTPD).split('/') if name.startswith(HTTPD) else []
    return parts[0] if len(parts) > 1 else None


def httpd_include(tree, name, line, target):
    """Each violation of HTTPD_MAY_INCLUDE by one include."""
    folder = httpd_folder(name)
    if folder not in HTTPD_MAY_INCLUDE:
        yield line, f'{HTTPD}{folder}/ has no row in tests/tidy/layers.py'
        return
    if folder == 'http' and target.startswith('kevring/'):
        yield line, f'{HTTPD}http/ includes no header of kevring'
    relative = posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
    for path in (target, relative):
        other = httpd_folder(path)
        if path in tree.files and other and other != folder \
                and other not in HTTPD_MAY_INCLUDE[folder]:
            yield line, f'{HTTPD}{folder}/ may not include {HTTPD}{other}/'


def layers(tree):
    """Includes point down the layers, and one file includes each third-party library."""
    for name in tree.code():
        folder = name.split('/')[0]
        for line, target in tree.includes(name):
            if httpd_folder(name):
                for at, what in httpd_include(tree, name, line, target):
                    yield name, at, what
            if target.startswith('kevring/'):
                for at, what in own_include(tree, name, folder, line, target):
                    yield name, at, what
            elif folder in LIBRARY and target in tree.files:
                yield name, line, f'write <kevring/{target}>, as an installed program does'
            for library, pattern, places in FOREIGN:
                if re.match(pattern, target) and not allowed(name, places):
                    yield name, line, f'{library} is included by {places[0]}, not here'
