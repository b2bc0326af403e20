#!/usr/bin/env python3
"""Tests the examples whose threads share a ring of events, from outside.

  rings.py DRAIN_SHARED DRAIN_ASYNC PUBLISH_TO_WORKERS
"""
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

DEADLINE_SECONDS = 60
MESSAGES = 200


class Rings(unittest.TestCase):
    def check_program(self, program):
        """Each message and signal is reported once, whichever thread takes the event."""
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, 'socket')
            process = subprocess.Popen([program, path], stdout=subprocess.PIPE, text=True)
            signal.alarm(DEADLINE_SECONDS)  # a line that never comes ends the test
            try:
                self.assertEqual(process.stdout.readline(), 'ready\n')
                peer = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                peer.connect(path)
                received = []
                for number in range(MESSAGES):
                    peer.send(str(number).encode())
                    if number % 10 == 9:  # bursts, and a pause in which the threads sleep
                        received += [process.stdout.readline().split() for _ in range(10)]
                self.assertEqual(sorted(int(text) for _, text in received), list(range(MESSAGES)))
                for _ in range(3):
                    process.send_signal(signal.SIGUSR1)
                    self.assertEqual(process.stdout.readline(), 'signal\n')
                time.sleep(0.02)  # some periods of the timer
                process.send_signal(signal.SIGTERM)
                self.assertEqual(process.stdout.readline(),
                                 f'messages: {MESSAGES}, signals: 3, timer: yes\n')
                self.assertEqual(process.wait(DEADLINE_SECONDS), 0)
                peer.close()
            finally:
                process.kill()
                process.wait()
                process.stdout.close()
                signal.alarm(0)

    def test_drain_shared(self):
        self.check_program(DRAIN_SHARED)

    def test_drain_async(self):
        self.check_program(DRAIN_ASYNC)

    def test_publish_to_workers(self):
        self.check_program(PUBLISH_TO_WORKERS)


if __name__ == '__main__':
    DRAIN_SHARED, DRAIN_ASYNC, PUBLISH_TO_WORKERS = sys.argv[1:4]
    unittest.main(argv=sys.argv[:1])
