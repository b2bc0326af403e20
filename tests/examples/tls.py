#!/usr/bin/env python3
"""Tests TLS against other implementations: openssl(1), and the ssl module of Python.

  tls.py TLS_ECHO TLS_FETCH
"""
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import unittest
import warnings

from authority import Authority

DEADLINE_SECONDS = 60
BODY = b'a page of the test\n' * 5000


def setUpModule():
    global FOLDER, AUTHORITY, CHAIN, KEY
    FOLDER = tempfile.mkdtemp(prefix='kevring-tls-')
    AUTHORITY = Authority(FOLDER)
    CHAIN, KEY = AUTHORITY.issue('server')


def tearDownModule():
    shutil.rmtree(FOLDER)


class Echo(unittest.TestCase):
    """tls_echo is the server."""

    @classmethod
    def setUpClass(cls):
        cls.server = subprocess.Popen(
            [TLS_ECHO, '--listen', '127.0.0.1:0', '--cert', CHAIN, '--key', KEY, '--protocol', 'echo'],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        host, port = cls.server.stdout.readline().split()[-1].rsplit(':', 1)
        cls.address = (host, int(port))

    @classmethod
    def tearDownClass(cls):
        cls.server.terminate()
        cls.server.communicate(timeout=DEADLINE_SECONDS)

    def connect(self, context, name='localhost', session=None):
        raw = socket.create_connection(self.address, timeout=DEADLINE_SECONDS)
        return context.wrap_socket(raw, server_hostname=name, session=session,
                                   suppress_ragged_eofs=False)

    def context(self, version=None):
        context = ssl.create_default_context(cafile=str(AUTHORITY.file))
        if version:
            context.minimum_version = context.maximum_version = version
        return context

    def echo(self, client, data):
        """In turns: two threads must not use one SSL object of Python at a time."""
        turn_bytes = 16384
        for first in range(0, len(data), turn_bytes):
            sent = data[first:first + turn_bytes]
            client.sendall(sent)
            received = b''
            while len(received) < len(sent):
                piece = client.recv(65536)
                self.assertTrue(piece, 'the server has ended the connection')
                received += piece
            self.assertEqual(received, sent)

    def test_python_echoes_a_megabyte_with_both_versions(self):
        for version in ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3:
            with self.subTest(version), self.connect(self.context(version)) as client:
                self.echo(client, bytes(range(256)) * 4096)
                client.settimeout(DEADLINE_SECONDS)
                client.unwrap()  # fails unless the server answers the close_notify

    def test_older_versions_are_refused(self):
        context = self.context()
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', DeprecationWarning)
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers('DEFAULT@SECLEVEL=0')
        with self.assertRaises(ssl.SSLError):
            self.connect(context)

    def test_the_protocol_is_selected(self):
        context = self.context()
        context.set_alpn_protocols(['h2', 'echo'])
        with self.connect(context) as client:
            self.assertEqual(client.selected_alpn_protocol(), 'echo')
        context.set_alpn_protocols(['h2'])
        with self.assertRaises(ssl.SSLError):
            self.connect(context)

    def test_python_resumes_its_session(self):
        for version in ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3:
            with self.subTest(version):
                context = self.context(version)
                with self.connect(context) as client:
                    self.echo(client, b'x')  # the tickets of TLS 1.3 precede it
                    session = client.session
                with self.connect(context, session=session) as client:
                    self.assertTrue(client.session_reused)
                    self.echo(client, b'y')

    def test_a_name_that_the_certificate_lacks_fails_at_the_client_only(self):
        with self.assertRaises(ssl.SSLCertVerificationError):
            self.connect(self.context(), 'other.test')
        with self.connect(self.context()) as client:
            self.echo(client, b'still served')

    def test_openssl_s_client_verifies_and_echoes(self):
        for option in '-tls1_2', '-tls1_3':
            with self.subTest(option):
                output = self.s_client(option)
                self.assertIn(b'Verify return code: 0 (ok)', output)
                self.assertIn(b'an echoed line', output)

    def s_client(self, option):
        client = subprocess.Popen(
            ['openssl', 's_client', '-connect', '%s:%d' % self.address, '-CAfile', AUTHORITY.file,
             '-verify_return_error', '-verify_hostname', 'localhost', '-servername', 'localhost', option],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        watchdog = threading.Timer(DEADLINE_SECONDS, client.kill)
        watchdog.start()
        client.stdin.write(b'an echoed line\n')
        client.stdin.flush()
        output = b''
        while b'an echoed line\n' not in output:
            line = client.stdout.readline()
            if not line:
                break
            output += line
        output += client.communicate(b'Q\n')[0]
        watchdog.cancel()
        return output

    def test_openssl_s_client_may_not_renegotiate(self):
        client = subprocess.Popen(
            ['openssl', 's_client', '-connect', '%s:%d' % self.address, '-CAfile', AUTHORITY.file, '-tls1_2'],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        watchdog = threading.Timer(DEADLINE_SECONDS, client.kill)
        watchdog.start()
        client.stdin.write(b'R\n')
        client.stdin.flush()
        output = client.stdout.read()  # the refusal ends the client, whose input stays open
        client.communicate()
        watchdog.cancel()
        self.assertIn(b'no renegotiation', output)


class Fetch(unittest.TestCase):
    """tls_fetch is the client."""

    def fetch(self, port, *options, host='localhost', status=0):
        done = subprocess.run([TLS_FETCH, '--ca', AUTHORITY.file, *options, f'127.0.0.1:{port}', host],
                              capture_output=True, timeout=DEADLINE_SECONDS)
        self.assertEqual(done.returncode, status, done.stderr)
        return done

    def serve(self, count, end, version=None):
        """A server by Python's ssl module for `count` connections; `end(connection)` ends each. The port."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CHAIN, KEY)
        context.set_alpn_protocols(['http/1.1'])
        if version:
            context.minimum_version = context.maximum_version = version
        listener = socket.create_server(('127.0.0.1', 0))
        listener.settimeout(DEADLINE_SECONDS)

        def run():
            with listener:
                for _ in range(count):
                    raw, _ = listener.accept()
                    raw.settimeout(DEADLINE_SECONDS)
                    try:
                        with context.wrap_socket(raw, server_side=True) as client:
                            request = b''
                            while not request.endswith(b'\r\n\r\n'):
                                request += client.recv(4096)
                            client.sendall(b'HTTP/1.1 200 OK\r\n\r\n' + BODY)
                            end(client)
                    except (ssl.SSLError, OSError):
                        pass

        server = threading.Thread(target=run)
        server.start()
        self.addCleanup(server.join)
        return listener.getsockname()[1]

    def test_python_serves_it_with_both_versions(self):
        for version in ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3:
            with self.subTest(version):
                port = self.serve(2, lambda client: client.unwrap(), version)
                done = self.fetch(port, '--count', '2')
                self.assertTrue(done.stdout.endswith(b'\r\n\r\n' + BODY))
                self.assertIn(b'http/1.1 resumed', done.stderr)  # the second connection

    def test_a_response_that_is_cut_is_an_error(self):
        done = self.fetch(self.serve(1, lambda client: client.shutdown(socket.SHUT_RDWR)), status=1)
        self.assertIn(b'close_notify', done.stderr)

    def test_a_server_with_another_name_is_refused(self):
        done = self.fetch(self.serve(1, lambda client: None), host='other.test', status=1)
        self.assertIn(b'another host name', done.stderr)

    def test_openssl_s_server_serves_it(self):
        with socket.create_server(('127.0.0.1', 0)) as free:
            port = free.getsockname()[1]
        server = subprocess.Popen(
            ['openssl', 's_server', '-accept', f'127.0.0.1:{port}', '-cert', CHAIN, '-key', KEY, '-www'],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            while b'ACCEPT' not in server.stdout.readline():
                self.assertIsNone(server.poll())
            done = self.fetch(port)
            self.assertIn(b'Ciphers supported', done.stdout)
        finally:
            server.kill()
            server.communicate()


if __name__ == '__main__':
    TLS_FETCH = sys.argv.pop(2)
    TLS_ECHO = sys.argv.pop(1)
    unittest.main()
