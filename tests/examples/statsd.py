#!/usr/bin/env python3
"""Tests the example statsd from outside.

  statsd.py STATSD
"""
import signal
import socket
import subprocess
import sys
import unittest

DEADLINE_SECONDS = 60


class Statsd(unittest.TestCase):
    def totals_of(self, address, *datagrams):
        process = subprocess.Popen([STATSD, '--listen', address], stdout=subprocess.PIPE, text=True)
        try:
            signal.alarm(DEADLINE_SECONDS)
            bound = process.stdout.readline().split()[-1]
            host, port = bound.rsplit(':', 1)
            family = socket.AF_INET6 if '[' in host else socket.AF_INET
            with socket.socket(family, socket.SOCK_DGRAM) as client:
                for each in datagrams:
                    client.sendto(each, (host.strip('[]'), int(port)))
            process.send_signal(signal.SIGTERM)
            output, _ = process.communicate(timeout=DEADLINE_SECONDS)
            signal.alarm(0)
            self.assertEqual(process.returncode, 0)
            return output.splitlines()
        finally:
            process.kill()
            process.wait()
            process.stdout.close()

    def test_counters_are_added_up(self):
        lines = self.totals_of('127.0.0.1:0', b'a:1|c', b'', b'b:2|c\na:40|c\n', b'a:-1|c')
        self.assertEqual(lines, ['a 40', 'b 2'])

    def test_invalid_counters_are_counted_as_bad(self):
        lines = self.totals_of('127.0.0.1:0', b'x', b'x:1', b':1|c', b'x:1|ms', b'x:|c', b'a:1|c')
        self.assertEqual(lines, ['a 1', 'bad lines: 5'])


if __name__ == '__main__':
    STATSD = sys.argv.pop(1)
    unittest.main()
