#!/usr/bin/env python3
"""Tests the examples of events from outside, as a user would try them.

  events.py WATCH_FILES SUPERVISE RELOAD_ON_SIGNAL TIMER_WHEEL WORK_QUEUE
"""
import os
import signal
import subprocess
import sys
import tempfile
import unittest

DEADLINE_SECONDS = 60


class Program:
    """An example that runs for the length of a block."""

    def __init__(self, *command):
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        signal.alarm(DEADLINE_SECONDS)  # a line that never comes ends the test
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        signal.alarm(0)

    def line(self):
        return self.process.stdout.readline().rstrip('\n')

    def end(self):
        return self.process.wait(DEADLINE_SECONDS)


def output_of(*command):
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_SECONDS,
                          check=True).stdout


class Events(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, text):
        with open(self.path(name), 'w', encoding='utf-8') as file:
            file.write(text)

    def test_watch_files(self):
        with Program(WATCH_FILES, self.folder) as watch:
            self.assertEqual(watch.line(), 'watching')
            self.write('one', 'bytes')
            os.rename(self.path('one'), self.path('two'))
            os.remove(self.path('two'))
            for what in ('created', 'written', 'moved from'):
                self.assertEqual(watch.line(), f'{what} {self.path("one")}')
            for what in ('moved to', 'removed'):
                self.assertEqual(watch.line(), f'{what} {self.path("two")}')

    def test_supervise_starts_again_until_it_succeeds(self):
        script = f'test -e {self.path("mark")} && exit 0; touch {self.path("mark")}; exit 4'
        said = output_of(SUPERVISE, 'sh', '-c', script).splitlines()
        self.assertEqual([line.split()[0] for line in said], ['started', 'ended'] * 2)
        self.assertEqual([said[1], said[3]], ['ended 4', 'ended 0'])

    def test_supervise_hands_a_signal_on(self):
        with Program(SUPERVISE, 'sleep', '1000') as supervise:
            child = int(supervise.line().split()[1])
            supervise.process.send_signal(signal.SIGTERM)
            self.assertEqual(supervise.line(), f'ended {int(signal.SIGTERM)}')
            self.assertEqual(supervise.end(), 0)
            with self.assertRaises(ProcessLookupError):
                os.kill(child, 0)

    def test_reload_on_signal(self):
        self.write('settings', 'one\n')
        with Program(RELOAD_ON_SIGNAL, self.path('settings')) as program:
            self.assertEqual(program.line(), 'loaded: one')
            self.write('settings', 'two\n')
            program.process.send_signal(signal.SIGHUP)
            self.assertEqual(program.line(), 'loaded: two')
            program.process.send_signal(signal.SIGTERM)
            self.assertEqual(program.line(), 'ended')
            self.assertEqual(program.end(), 0)

    def test_timer_wheel(self):
        counts = dict(line.split(': ') for line in output_of(TIMER_WHEEL).splitlines())
        self.assertEqual(counts['never'], '0')
        self.assertGreaterEqual(int(counts['slow']), 2)
        self.assertGreaterEqual(int(counts['fast']), int(counts['middle']))

    def test_work_queue(self):
        for _ in range(20):
            self.assertEqual(output_of(WORK_QUEUE), f'done: 1000, sum: {999 * 1000 // 2}\n')


if __name__ == '__main__':
    WORK_QUEUE = sys.argv.pop()
    TIMER_WHEEL = sys.argv.pop()
    RELOAD_ON_SIGNAL = sys.argv.pop()
    SUPERVISE = sys.argv.pop()
    WATCH_FILES = sys.argv.pop()
    unittest.main()
