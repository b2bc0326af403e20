#!/usr/bin/env python3
"""Tests the example that drives libcurl by a ring.

  curl.py CURL_FETCH HTTPD
"""
import os
import re
import subprocess
import sys
import tempfile
import threading
import unittest

from programs import DEADLINE_SECONDS, reserved_port
from threads import Target


class Httpd:
    """The server, with files of its own."""

    def __init__(self, files):
        self.folder = tempfile.TemporaryDirectory(prefix='kevring-curl-')
        for name, content in files.items():
            with open(os.path.join(self.folder.name, name), 'wb') as file:
                file.write(content)

    def __enter__(self):
        self.process = subprocess.Popen([HTTPD, '--root', self.folder.name, '--threads', '1', '--listen', '127.0.0.1:0'],
                                        stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            found = re.search(r'http://[0-9.]+:(\d+)$', line.strip())
            if found:
                self.address = f'http://127.0.0.1:{found[1]}/'
                return self
        raise AssertionError('httpd did not start')

    def __exit__(self, *_):
        self.process.terminate()
        self.process.communicate(timeout=DEADLINE_SECONDS)
        self.folder.cleanup()


def fetch(*addresses):
    done = subprocess.run([CURL_FETCH, *addresses], stdout=subprocess.PIPE, text=True, timeout=DEADLINE_SECONDS, check=False)
    return done.returncode, sorted(done.stdout.splitlines())


class CurlFetch(unittest.TestCase):
    def test_files_of_any_size_arrive_whole(self):
        with Httpd({'empty': b'', 'page': b'x' * 1000, 'large': os.urandom(3 << 20)}) as server:
            names = ('empty', 'large', 'missing', 'page')
            status, lines = fetch(*(server.address + name for name in names))
        self.assertEqual(status, 0)
        self.assertEqual(lines[0], f'{server.address}empty: status 200, 0 bytes')
        self.assertEqual(lines[1], f'{server.address}large: status 200, {3 << 20} bytes')
        self.assertRegex(lines[2], r'missing: status 404, \d+ bytes$')
        self.assertEqual(lines[3], f'{server.address}page: status 200, 1000 bytes')

    def test_transfers_run_at_the_same_time(self):
        count = 5
        all_have_come = threading.Barrier(count)

        def answer(peer):
            data = b''
            while b'\r\n\r\n' not in data:
                data += peer.recv(4096)
            all_have_come.wait(DEADLINE_SECONDS)  # no answer before the last request
            peer.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody')

        with Target(answer) as target:
            status, lines = fetch(*(f'http://127.0.0.1:{target.port}/{i}' for i in range(count)))
        self.assertEqual(status, 0)
        self.assertEqual(lines, [f'http://127.0.0.1:{target.port}/{i}: status 200, 4 bytes' for i in range(count)])

    def test_an_error_of_one_transfer_is_its_own(self):
        holder, port = reserved_port()  # no program listens there
        with holder, Httpd({'page': b'x' * 10}) as server:
            status, lines = fetch(f'http://127.0.0.1:{port}/', server.address + 'page')
        self.assertEqual(status, 1)
        self.assertEqual(len(lines), 2)
        self.assertIn(f'{server.address}page: status 200, 10 bytes', lines)
        self.assertTrue(any(line.startswith(f'http://127.0.0.1:{port}/: ') and 'status' not in line for line in lines), lines)


if __name__ == '__main__':
    CURL_FETCH, HTTPD = sys.argv[1:3]
    unittest.main(argv=sys.argv[:1])
