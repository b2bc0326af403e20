#!/usr/bin/env python3
"""Tests the examples tail_follow and copy_directory from outside.

  files.py TAIL_FOLLOW COPY_DIRECTORY
"""
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import unittest

DEADLINE_SECONDS = 60


def expired(*_):
    raise TimeoutError(f'no answer within {DEADLINE_SECONDS} s')


class Example(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        signal.signal(signal.SIGALRM, expired)
        signal.alarm(DEADLINE_SECONDS)

    def tearDown(self):
        signal.alarm(0)


class TailFollow(Example):
    def start(self, path):
        process = subprocess.Popen([TAIL_FOLLOW, path], stdout=subprocess.PIPE)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def expect(self, process, text):
        self.assertEqual(process.stdout.read(len(text)), text)

    def test_appended_bytes_are_printed(self):
        log = self.folder / 'log'
        log.write_bytes(b'old\n')
        process = self.start(log)
        self.expect(process, b'old\n')
        for number in range(20):
            with log.open('ab') as file:
                file.write(b'line %d\n' % number)
            self.expect(process, b'line %d\n' % number)

    def test_a_rotated_file_is_followed_by_its_name(self):
        log = self.folder / 'log'
        log.write_bytes(b'one\n')
        process = self.start(log)
        self.expect(process, b'one\n')
        with log.open('ab') as file:
            log.rename(self.folder / 'log.1')
            file.write(b'two\n')  # still to the old file
        log.write_bytes(b'three\n')
        self.expect(process, b'two\nthree\n')
        (self.folder / 'new').write_bytes(b'four\n')
        (self.folder / 'new').rename(log)
        self.expect(process, b'four\n')

    def test_a_truncated_file_is_read_from_its_beginning(self):
        log = self.folder / 'log'
        log.write_bytes(b'a long first line\n')
        process = self.start(log)
        self.expect(process, b'a long first line\n')
        os.truncate(log, 0)
        with log.open('ab') as file:
            file.write(b'new\n')
        self.expect(process, b'new\n')

    def test_a_file_that_is_made_later_is_printed(self):
        process = self.start(self.folder / 'log')
        (self.folder / 'log').write_bytes(b'made\n')
        self.expect(process, b'made\n')


class CopyDirectory(Example):
    def run_copy(self, source, target):
        return subprocess.run([COPY_DIRECTORY, source, target], capture_output=True, text=True,
                              timeout=DEADLINE_SECONDS, check=False)

    def test_a_tree_is_copied(self):
        source = self.folder / 'source'
        (source / 'a' / 'b').mkdir(parents=True)
        for number in range(700):
            (source / 'a' / str(number)).write_bytes(b'x' * number)
        (source / 'a' / 'b' / 'link').symlink_to('nowhere')
        done = self.run_copy(source, self.folder / 'target')
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout, 'copied 244650 bytes in 700 files\n')
        self.assertGreaterEqual(done.stderr.count('\n'), 3)  # progress
        subprocess.run(['diff', '-r', '--no-dereference', source, self.folder / 'target'],
                       check=True, timeout=DEADLINE_SECONDS)

    def test_an_existing_target_is_an_error(self):
        (self.folder / 'source').mkdir()
        (self.folder / 'target').mkdir()
        done = self.run_copy(self.folder / 'source', self.folder / 'target')
        self.assertEqual(done.returncode, 1)
        self.assertIn('File exists', done.stderr)


if __name__ == '__main__':
    TAIL_FOLLOW, COPY_DIRECTORY = sys.argv[1:3]
    unittest.main(argv=sys.argv[:1])
