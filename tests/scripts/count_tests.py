#!/usr/bin/env python3
"""Tests that scripts/count-tests counts what Catch2, of both versions, and meson say, and that the scripts which call it count
the tests of this run.
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

SCRIPTS = pathlib.Path(__file__).resolve().parents[2] / 'scripts'
SCRIPT = SCRIPTS / 'count-tests'


def counted(*entries):
    """The (last line, exit status) for (result, output) pairs as meson logs them."""
    with tempfile.NamedTemporaryFile('w', suffix='.json') as log:
        for result, output in entries:
            log.write(json.dumps({'name': 'a', 'result': result, 'stdout': output}) + '\n')
        log.flush()
        done = subprocess.run([sys.executable, str(SCRIPT), log.name], capture_output=True,
                              text=True, check=False)
    return done.stdout.splitlines()[-1], done.returncode


class Counts(unittest.TestCase):
    def test_all_cases_of_a_program(self):
        output = '===\nAll tests passed (68 assertions in 12 test cases)\n\n'
        self.assertEqual(counted(('OK', output)), ('12 passed, 0 failed, 0 skipped', 0))
        output = 'All tests passed (1 assertion in 1 test case)\n'
        self.assertEqual(counted(('OK', output)), ('1 passed, 0 failed, 0 skipped', 0))

    def test_some_cases_failed(self):
        output = 'test cases:  5 |  3 passed | 2 failed\nassertions: 19 | 17 passed | 2 failed\n'
        self.assertEqual(counted(('FAIL', output)), ('3 passed, 2 failed, 0 skipped', 1))

    def test_some_cases_were_skipped(self):
        output = 'test cases: 4 | 3 passed | 1 skipped\nassertions: 9 | 9 passed\n'
        self.assertEqual(counted(('OK', output)), ('3 passed, 0 failed, 1 skipped', 0))

    def test_cases_that_are_expected_to_fail(self):
        output = 'test cases: 3 | 2 passed | 1 failed as expected\n'
        self.assertEqual(counted(('OK', output)), ('3 passed, 0 failed, 0 skipped', 0))

    def test_other_programs_count_as_one(self):
        self.assertEqual(counted(('OK', ''), ('OK', 'fine'), ('SKIP', '')),
                         ('2 passed, 0 failed, 1 skipped', 0))

    def test_a_program_that_crashed_or_hung(self):
        self.assertEqual(counted(('OK', ''), ('FAIL', 'half'), ('TIMEOUT', '')),
                         ('1 passed, 2 failed, 0 skipped', 1))

    def test_a_program_that_failed_after_its_last_case(self):
        output = 'All tests passed (2 assertions in 2 test cases)\nLeakSanitizer: leaks\n'
        self.assertEqual(counted(('FAIL', output)), ('2 passed, 1 failed, 0 skipped', 1))

    def test_that_nothing_ran_is_no_success(self):
        self.assertEqual(counted(), ('0 passed, 0 failed, 0 skipped', 1))


class Runs(unittest.TestCase):
    def run_without_tests(self, script, *arguments):
        """Runs a script in a tree whose last run passed, by a meson that finds no test and ends with 0."""
        with tempfile.TemporaryDirectory() as folder:
            top = pathlib.Path(folder)
            (top / 'scripts').mkdir()
            (top / 'programs').mkdir()
            (top / 'build/meson-logs').mkdir(parents=True)
            (top / 'build/build.ninja').touch()
            log = top / 'build/meson-logs/testlog.json'
            log.write_text(json.dumps({'name': 'kevring:a / b', 'result': 'OK', 'stdout': '', 'duration': 1}) + '\n')
            for name in (script, 'count-tests', 'suite-seconds'):
                shutil.copy(SCRIPTS / name, top / 'scripts')
            for name in ('scripts/packages', 'scripts/format', 'scripts/bench-once', 'programs/ninja', 'programs/meson'):
                (top / name).write_text('#!/bin/sh\n')
                (top / name).chmod(0o755)
            environment = {**os.environ, 'PATH': f'{top}/programs:{os.environ["PATH"]}'}
            environment.pop('BUILD', None)
            done = subprocess.run([top / 'scripts' / script, *arguments], cwd=top, env=environment, capture_output=True, text=True,
                                  check=False, timeout=60)
        return done

    def test_a_name_that_no_test_has_is_no_success(self):
        for script, argument in (('test', 'no-such-test'), ('check', 'build')):
            with self.subTest(script):
                done = self.run_without_tests(script, argument)
                self.assertIn('0 passed, 0 failed, 0 skipped', done.stdout)
                self.assertNotEqual(done.returncode, 0)


if __name__ == '__main__':
    unittest.main()
