#!/usr/bin/env python3
"""Tests the example programs about control flow from outside.

  threads.py ASIO_CONTEXT_INSIDE ASIO_INSIDE ASIO_OUTSIDE CHAT COMPUTE FETCH PIPELINE PROXY
"""
import signal
import socket
import subprocess
import sys
import threading
import unittest

from programs import DEADLINE_SECONDS, Program, receive, reserved_port


def read_line(peer):
    data = b''
    while not data.endswith(b'\n'):
        piece = peer.recv(1)
        assert piece, f'closed after {data}'
        data += piece
    return data


class Target:
    """A server that answers each connection by `answer(peer)`, on threads."""

    def __init__(self, answer):
        self.listener = socket.create_server(('127.0.0.1', 0))
        self.port = self.listener.getsockname()[1]
        self.answer = answer
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    def accept(self):
        while True:
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(peer,), daemon=True).start()

    def serve(self, peer):
        with peer:
            peer.settimeout(DEADLINE_SECONDS)
            self.answer(peer)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(DEADLINE_SECONDS)


class Examples(unittest.TestCase):
    def test_chat_sends_lines_to_the_others(self):
        with Program(CHAT) as chat, chat.connect() as first, chat.connect() as second:
            second.sendall(b'first?\n')
            self.assertEqual(read_line(first), b'first?\n')
            first.sendall(b'one\ntwo\n')
            self.assertEqual(read_line(second), b'one\n')
            self.assertEqual(read_line(second), b'two\n')

    def test_chat_is_not_delayed_by_a_client_that_does_not_read(self):
        # The talker connects first: it is a member before a line of the others is read.
        with Program(CHAT, '--lines', '2') as chat, chat.connect() as talker, \
                chat.connect() as slow, chat.connect() as quick:
            for peer in (slow, quick):  # both are members when their line has come
                peer.sendall(b'hello\n')
                self.assertEqual(read_line(talker), b'hello\n')
            seen = threading.Event()

            def drain():
                data = b''
                while b'last\n' not in data:
                    data = data[-10:] + quick.recv(65536)
                seen.set()

            reader = threading.Thread(target=drain, daemon=True)
            reader.start()
            line = b'x' * 1000 + b'\n'
            for _ in range(6000):  # more than the buffers of the slow client hold
                talker.sendall(line)
            for _ in range(DEADLINE_SECONDS * 20):
                talker.sendall(b'last\n')
                if seen.wait(0.05):
                    break
            self.assertTrue(seen.is_set())
            reader.join(DEADLINE_SECONDS)
            data = b''
            while b'lines lost' not in data:
                talker.sendall(b'more\n')
                data = data[-20:] + slow.recv(65536)

    def test_proxy_passes_half_close_on(self):
        def answer(peer):
            data = b''
            while True:
                piece = peer.recv(65536)
                if not piece:
                    break
                data += piece
            peer.sendall(data[::-1])

        with Target(answer) as target, \
                Program(PROXY, '--to', f'127.0.0.1:{target.port}') as proxy, \
                proxy.connect() as peer:
            message = bytes(range(256)) * 1000
            peer.sendall(message)
            peer.shutdown(socket.SHUT_WR)
            self.assertEqual(receive(peer, len(message)), message[::-1])
            self.assertEqual(peer.recv(1), b'')

    def test_proxy_connects_to_a_name(self):
        # The name may have an IPv6 address too, at which nothing listens.
        with Target(lambda peer: peer.sendall(read_line(peer).upper())) as target, \
                Program(PROXY, '--to', f'localhost:{target.port}') as proxy, \
                proxy.connect() as peer:
            peer.sendall(b'hello\n')
            self.assertEqual(read_line(peer), b'HELLO\n')

    def test_proxy_reports_each_address_of_a_server_that_is_not_there(self):
        holder, port = reserved_port()
        with holder, Program(PROXY, '--to', f'localhost:{port}') as proxy, proxy.connect() as peer:
            line = read_line(peer)
        self.assertIn(f'proxy: localhost:{port}: '.encode(), line)
        self.assertIn(f'127.0.0.1:{port}: Connection refused'.encode(), line)

    def test_proxy_reports_the_part_of_a_target_that_is_wrong(self):
        for target, words in (('localhost:65536', 'port is not a number from 0 to 65535'),
                              ('localhost', 'port'), ('[::1:80', '['), ('unix:', 'path')):
            with self.subTest(target):
                done = subprocess.run([PROXY, '--listen', '127.0.0.1:0', '--to', target],
                                      capture_output=True, text=True, timeout=DEADLINE_SECONDS)
                self.assertEqual(done.returncode, 1)  # at its start
                self.assertIn(f'--to {target}', done.stderr)
                self.assertIn(words, done.stderr)

    def test_proxy_limits_the_time_for_connecting(self):
        with socket.socket() as full:  # its backlog is full, so that a connect waits
            full.bind(('127.0.0.1', 0))
            full.listen(0)
            port = full.getsockname()[1]
            waiting = []
            for _ in range(4):
                peer = socket.socket()
                peer.setblocking(False)
                peer.connect_ex(('127.0.0.1', port))
                waiting.append(peer)
            with Program(PROXY, '--to', f'127.0.0.1:{port}', '--connect-ms', '50') as proxy, \
                    proxy.connect() as peer:
                self.assertIn(b'timed out', read_line(peer))
            for peer in waiting:
                peer.close()

    def test_fetch_has_a_bound(self):
        lock = threading.Lock()
        counts = {'now': 0, 'most': 0}
        full = threading.Event()

        def answer(peer):
            with lock:
                counts['now'] += 1
                counts['most'] = max(counts['most'], counts['now'])
                if counts['now'] == 3:
                    full.set()
            assert full.wait(DEADLINE_SECONDS)  # until three are connected at once
            read_line(peer)
            with lock:
                counts['now'] -= 1
            peer.sendall(b'answer')

        with Target(answer) as target:
            done = subprocess.run(
                [FETCH, '--at-most', '3', *[f'127.0.0.1:{target.port}'] * 9], capture_output=True,
                text=True, timeout=DEADLINE_SECONDS, check=True)
        self.assertEqual(done.stdout.count(': 6 bytes\n'), 9)
        self.assertEqual(counts['most'], 3)

    def test_pipeline_holds_the_first_loop_back(self):
        done = subprocess.run([PIPELINE, '2000'], capture_output=True, text=True,
                              timeout=DEADLINE_SECONDS, check=True)
        self.assertEqual(done.stdout, '2001000\nbounded\n')

    def test_compute_serves_others_during_a_computation(self):
        with Program(COMPUTE, '--pool', '1') as compute, compute.connect() as slow, \
                compute.connect() as quick:
            slow.sendall(b'1000\n')
            self.assertEqual(read_line(slow), b'168\n')
            slow.sendall(b'10000000\n')
            quick.sendall(b'10\n')
            self.assertEqual(read_line(slow), b'664579\n')
            self.assertEqual(read_line(quick), b'4\n')

    def test_asio_outside_drives_a_ring(self):
        with Program(ASIO_OUTSIDE) as program, program.connect() as first, \
                program.connect() as second:
            first.sendall(b'hello\nwor')
            second.sendall(b'other\n')
            self.assertEqual(read_line(first), b'HELLO\n')
            self.assertEqual(read_line(second), b'OTHER\n')
            first.sendall(b'ld\n')
            self.assertEqual(read_line(first), b'WORLD\n')

    def test_a_ring_runs_an_io_context(self):
        with Program(ASIO_CONTEXT_INSIDE) as program, program.connect() as first, \
                program.connect() as second:
            first.sendall(b'hello\nwor')
            second.sendall(b'other\n')
            self.assertEqual(read_line(first), b'HELLO\n')
            self.assertEqual(read_line(second), b'OTHER\n')
            first.sendall(b'ld\n')
            self.assertEqual(read_line(first), b'WORLD\n')
            program.process.send_signal(signal.SIGUSR1)
            self.assertEqual(program.process.stdout.readline(), b'3 lines\n')
            program.process.terminate()
            self.assertEqual(program.process.wait(DEADLINE_SECONDS), 0)

    def test_asio_inside_resolves_on_a_ring(self):
        done = subprocess.run([ASIO_INSIDE, '127.0.0.1'], capture_output=True, text=True,
                              timeout=DEADLINE_SECONDS, check=True)
        self.assertIn('127.0.0.1\n', done.stdout)


if __name__ == '__main__':
    (ASIO_CONTEXT_INSIDE, ASIO_INSIDE, ASIO_OUTSIDE, CHAT, COMPUTE, FETCH, PIPELINE, PROXY) = sys.argv[1:9]
    unittest.main(argv=sys.argv[:1])
