#!/usr/bin/env python3
"""Tests the example programs from outside: each as the user's first try of it.

  programs.py ECHO FOREIGN_LOOP HELLO OWN_AWAITABLE
"""
import contextlib
import os
import socket
import subprocess
import sys
import time
import unittest

DEADLINE_SECONDS = 60


def reserved_port():
    """A socket and its port: until it is closed the kernel gives the port to no other process, and the
    servers under test may bind it."""
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(('127.0.0.1', 0))
    return holder, holder.getsockname()[1]


class Program:
    """An example that listens, for the length of a block."""

    def __init__(self, program, *arguments):
        self.holder, self.port = reserved_port()
        self.process = subprocess.Popen(
            [program, '--listen', f'127.0.0.1:{self.port}', *arguments], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(DEADLINE_SECONDS)
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stdout.close()
        self.holder.close()

    def connect(self):
        deadline = time.monotonic() + DEADLINE_SECONDS
        while True:
            try:
                return socket.create_connection(('127.0.0.1', self.port), DEADLINE_SECONDS)
            except ConnectionRefusedError:  # it has not begun to listen
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)


def receive(peer, count):
    data = b''
    while len(data) < count:
        piece = peer.recv(count - len(data))
        assert piece, f'closed after {len(data)} of {count} bytes'
        data += piece
    return data


class Examples(unittest.TestCase):
    def test_echo_sends_back_what_it_receives(self):
        for threads in ('1', '2'):
            with self.subTest(threads=threads), Program(ECHO, '--threads', threads) as echo:
                peers = [echo.connect() for _ in range(8)]
                for size in (1, 64, 16384):
                    sent = [os.urandom(size) for _ in peers]
                    for peer, message in zip(peers, sent):
                        peer.sendall(message)
                    for peer, message in zip(peers, sent):
                        self.assertEqual(receive(peer, size), message)
                for peer in peers:
                    peer.shutdown(socket.SHUT_WR)
                    self.assertEqual(peer.recv(1), b'')
                    peer.close()

    def test_echo_continues_when_a_client_resets(self):
        with Program(ECHO) as echo:
            for _ in range(3):
                with echo.connect() as peer:
                    peer.sendall(b'never read')
                    linger_of_nothing = b'\1\0\0\0\0\0\0\0'  # close() sends a reset
                    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_of_nothing)
            with echo.connect() as peer:
                peer.sendall(b'still there?')
                self.assertEqual(receive(peer, 12), b'still there?')

    def test_hello_answers_every_request_in_any_split(self):
        request = b'GET /any HTTP/1.1\r\nHost: here\r\n\r\n'
        with Program(HELLO) as hello, hello.connect() as peer:
            peer.sendall(request)
            answer = receive(peer, 150)
            self.assertTrue(answer.startswith(b'HTTP/1.1 200 OK\r\n'))
            for cut in range(1, len(request)):
                peer.sendall(request[:cut])
                peer.sendall(request[cut:] + request)
                self.assertEqual(receive(peer, 300), answer * 2)

    def test_a_foreign_loop_serves_the_ring_and_its_own_descriptors(self):
        with Program(FOREIGN_LOOP) as program:
            peers = [program.connect() for _ in range(8)]
            for number, peer in enumerate(peers, 1):
                peer.sendall(b'x' * 1000)
                self.assertEqual(receive(peer, 1000), b'x' * 1000)
                program.process.stdin.write(b'how many?\n')
                program.process.stdin.flush()
                self.assertEqual(program.process.stdout.readline(),
                                 b'%d bytes echoed\n' % (number * 1000))
            program.process.stdin.close()
            self.assertEqual(program.process.wait(DEADLINE_SECONDS), 0)
            for peer in peers:
                self.assertEqual(peer.recv(1), b'')
                peer.close()

    def test_an_address_that_is_none(self):
        for program in (ECHO, FOREIGN_LOOP, HELLO):
            done = subprocess.run([program, '--listen', 'nowhere'], capture_output=True, text=True,
                                  timeout=DEADLINE_SECONDS, check=False)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn('nowhere', done.stderr)

    def test_help(self):
        for program in (ECHO, HELLO):
            said = subprocess.run([program, '--help'], capture_output=True, text=True,
                                  timeout=DEADLINE_SECONDS, check=True).stdout
            self.assertIn('--listen', said)
            self.assertIn('--threads', said)

    def test_an_awaitable_of_a_programs_own(self):
        done = subprocess.run([OWN_AWAITABLE], capture_output=True, text=True,
                              timeout=DEADLINE_SECONDS, check=True)
        self.assertEqual(done.stdout.split('\n')[0], '500500')
        self.assertIn('timed out', done.stdout.split('\n')[1])


if __name__ == '__main__':
    OWN_AWAITABLE = sys.argv.pop()
    HELLO = sys.argv.pop()
    FOREIGN_LOOP = sys.argv.pop()
    ECHO = sys.argv.pop()
    unittest.main()
