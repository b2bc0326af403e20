#!/usr/bin/env python3
"""Tests scripts/serve as a person uses it: the address first, the page, Ctrl-C.

  serve.py BUILD
"""
import ctypes
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


def refuse_io_uring():
    """Installs a seccomp filter in this process, as container engines do: io_uring_setup(2) fails with EPERM."""
    class Instruction(ctypes.Structure):
        _fields_ = [('code', ctypes.c_uint16), ('if_true', ctypes.c_uint8), ('if_false', ctypes.c_uint8), ('k', ctypes.c_uint32)]

    class Filter(ctypes.Structure):
        _fields_ = [('count', ctypes.c_uint16), ('first', ctypes.POINTER(Instruction))]

    load, compare, end = 0x20, 0x15, 0x06
    instructions = (Instruction * 4)((load, 0, 0, 0), (compare, 0, 1, 425), (end, 0, 0, 0x00050001), (end, 0, 0, 0x7fff0000))
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(38, 1, 0, 0, 0) != 0 or library.prctl(22, 2, ctypes.byref(Filter(4, instructions)), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), 'prctl')


class Serve(unittest.TestCase):
    def refusal(self, environment, **options):
        """Returns the text that serve prints where io_uring is refused; nothing is built then."""
        with tempfile.TemporaryDirectory() as folder:
            build = pathlib.Path(folder, 'build')
            said = subprocess.run([TOP / 'scripts/serve'], env={**os.environ, 'BUILD': str(build), **environment},
                                  capture_output=True, text=True, check=False, timeout=DEADLINE_SECONDS, **options)
            self.assertNotEqual(said.returncode, 0)
            self.assertEqual(said.stdout, '')
            self.assertFalse(build.exists())
            return said.stderr

    def test_a_setting_that_forbids_io_uring_is_reported_before_the_build(self):
        with tempfile.NamedTemporaryFile('w') as setting:
            setting.write('2\n')
            setting.flush()
            said = self.refusal({'KEVRING_TEST_IO_URING_DISABLED': setting.name})
        self.assertIn('kernel.io_uring_disabled is 2; remedy: sysctl', said)

    def test_a_seccomp_filter_is_reported_before_the_build(self):
        said = self.refusal({}, preexec_fn=refuse_io_uring)
        self.assertIn('a seccomp filter refuses it', said)
        self.assertIn('packaging/container/allow-io-uring', said)

    def test_a_setting_that_allows_io_uring_to_a_group_is_reported_before_the_build(self):
        with tempfile.NamedTemporaryFile('w') as setting:
            setting.write('1\n')
            setting.flush()
            said = self.refusal({'KEVRING_TEST_IO_URING_DISABLED': setting.name}, preexec_fn=refuse_io_uring)
        self.assertIn('kernel.io_uring_disabled is 1; remedy: sysctl', said)

    def test_the_help_has_one_example(self):
        said = subprocess.run([TOP / 'scripts/serve', '--help'], capture_output=True, text=True, check=True,
                              timeout=DEADLINE_SECONDS)
        self.assertEqual(said.stdout.count('example'), 1)
        self.assertIn('scripts/serve --port', said.stdout)

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
        for arguments in (['--sport', '1'], ['--port', 'x'], ['--port', '0'], ['--port'], ['a', 'b']):
            with self.subTest(arguments=arguments), Server(*arguments) as server:
                self.assertEqual(server.address, '')
                self.assertEqual(server.process.wait(DEADLINE_SECONDS), 2)


if __name__ == '__main__':
    os.environ['BUILD'] = sys.argv.pop(1)
    unittest.main()
