#!/usr/bin/env python3
"""Tests the example job_runner from outside.

  job_runner.py JOB_RUNNER
"""
import os
import subprocess
import sys
import time
import unittest

DEADLINE_SECONDS = 60


def run(commands, *options):
    done = subprocess.run([JOB_RUNNER, *options], input=commands, capture_output=True, text=True,
                          timeout=DEADLINE_SECONDS, check=False)
    return done.returncode, done.stdout


class JobRunner(unittest.TestCase):
    def test_each_command_is_reported_with_its_output(self):
        code, output = run("echo one; echo two >&2\nexit 3\nkill -9 $$\n", '--jobs', '1')
        self.assertEqual(code, 1)
        self.assertEqual(output, "echo one; echo two >&2: exit 0\none\ntwo\n"
                                 "exit 3: exit 3\nkill -9 $$: signal 9\n")

    def test_success_is_the_exit_status_0(self):
        self.assertEqual(run("true\ntrue\n"), (0, "true: exit 0\ntrue: exit 0\n"))
        self.assertEqual(run(""), (0, ""))

    def test_commands_run_side_by_side(self):
        # Each waits for the other: one after the other they would never end.
        folder = f'/tmp/job_runner.{os.getpid()}.{time.monotonic_ns()}'
        first = f'mkdir {folder}; until [ -e {folder}/other ]; do sleep 0.01; done; rm -r {folder}'
        second = f'until mkdir {folder}/other; do sleep 0.01; done 2>/dev/null'
        code, _ = run(f'{first}\n{second}\n', '--jobs', '2')
        self.assertEqual(code, 0)

    def test_a_command_that_takes_too_long_is_ended_with_its_children(self):
        code, output = run("echo begun; sleep 1000 & wait\n", '--timeout', '300')
        self.assertEqual(code, 1)
        self.assertEqual(output, "echo begun; sleep 1000 & wait: timed out\nbegun\n")

    def test_a_long_output_is_cut(self):
        code, output = run("head -c 3000000 /dev/zero | tr '\\0' x\n")
        self.assertEqual(code, 0)
        self.assertIn('[cut]', output)
        self.assertLess(len(output), 1100000)


if __name__ == '__main__':
    JOB_RUNNER = sys.argv.pop(1)
    unittest.main()
