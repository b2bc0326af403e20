#!/usr/bin/env python3
"""Tests that scripts/count-tests counts what Catch2, of both versions, and meson say."""
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / 'scripts/count-tests'


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


if __name__ == '__main__':
    unittest.main()
