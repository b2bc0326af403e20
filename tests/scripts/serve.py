#!/usr/bin/env python3
"""Tests scripts/serve as a person uses it: the address first, the page, Ctrl-C.

  serve.py BUILD
"""
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.request

TOP = pathlib.Path(__file__).resolve().parents[2]
DEADLINE_SECONDS = 60


def reserved_port():
    """A socket, and its port: until the socket is closed, the kernel assigns the port to no other process, and the server may bind it."""
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(('127.0.0.1', 0))
    return holder, holder.getsockname()[1]


class Server:
    """scripts/serve as a child; stopped by Ctrl-C at the end of the block."""

    def __init__(self, *arguments):
        self.said = tempfile.TemporaryFile('w+')
        self.process = subprocess.Popen([TOP / 'scripts/serve', *arguments], cwd='/',
                                        stdout=subprocess.PIPE, stderr=self.said, text=True)
        self.address = self.process.stdout.readline().rstrip('\n')

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.stop()
        self.process.stdout.close()
        self.said.close()

    def get(self, path):
        """The body of a page; the server may need a moment after it has said its address."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while True:
            try:
                with urllib.request.urlopen(self.address + path, timeout=DEADLINE_SECONDS) as got:
                    return got.read()
            except ConnectionError:
                pass
            except urllib.error.URLError as error:
                if not isinstance(error.reason, ConnectionError):
                    raise
            time.sleep(0.01)
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.said.seek(0)
                raise AssertionError('no server: ' + self.said.read())

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(DEADLINE_SECONDS)


class Serve(unittest.TestCase):
    def test_our_page_until_ctrl_c(self):
        holder, port = reserved_port()
        with holder, Server('--port', str(port)) as server:
            self.assertEqual(server.address, f'http://127.0.0.1:{port}')
            page = (TOP / 'examples/httpd/www/index.html').read_bytes()
            self.assertEqual(server.get('/'), page)
            self.assertEqual(server.stop(), 0)

    def test_a_folder_of_the_users(self):
        holder, port = reserved_port()
        with holder, tempfile.TemporaryDirectory() as folder:
            pathlib.Path(folder, 'hello.txt').write_text('hello\n')
            with Server('--port', str(port), folder) as server:
                self.assertEqual(server.get('/hello.txt'), b'hello\n')

    def test_a_port_that_is_taken(self):
        with socket.create_server(('127.0.0.1', 0)) as taken:
            with Server('--port', str(taken.getsockname()[1])) as server:
                self.assertNotEqual(server.process.wait(DEADLINE_SECONDS), 0)
                server.said.seek(0)
                self.assertIn('in use', server.said.read())

    def test_arguments_that_it_does_not_know(self):
        for arguments in (['--sport', '1'], ['--port', 'x'], ['--port'], ['a', 'b']):
            with self.subTest(arguments=arguments), Server(*arguments) as server:
                self.assertEqual(server.address, '')
                self.assertEqual(server.process.wait(DEADLINE_SECONDS), 2)


if __name__ == '__main__':
    os.environ['BUILD'] = sys.argv.pop(1)
    unittest.main()
