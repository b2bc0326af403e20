#!/usr/bin/env python3
"""Tests scripts/suite-seconds: seconds of suites, and the budget of .ci/run."""
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

TOP = pathlib.Path(__file__).resolve().parents[2]


def run(*arguments):
    done = subprocess.run([sys.executable, TOP / 'scripts/suite-seconds', *arguments], capture_output=True, text=True, check=False)
    return done.stdout, done.returncode


def run_steps(steps, budget):
    with tempfile.TemporaryDirectory() as folder:
        for name, text in (('steps', steps), ('budget', budget)):
            pathlib.Path(folder, name).write_text(text)
        return run('--steps', f'{folder}/steps', f'{folder}/budget')


class SuiteSeconds(unittest.TestCase):
    def test_the_seconds_of_a_suite_are_those_of_its_tests(self):
        entries = [('p:tidy / a', 2), ('p:tidy / b', 3), ('p / c', 1.5), ('plain', 1)]
        with tempfile.NamedTemporaryFile('w') as log:
            log.writelines(json.dumps({'name': name, 'duration': seconds}) + '\n' for name, seconds in entries)
            log.flush()
            said, status = run(log.name)
        self.assertEqual(status, 0)
        lines = [line.split() for line in said.splitlines()]
        self.assertEqual(lines[0], ['5.0', 's', 'tidy', '(2', 'tests)'])
        self.assertEqual(lines[1], ['2.5', 's', 'without', 'a', 'suite', '(2', 'tests)'])
        self.assertIn('slowest: b 3.0 s, a 2.0 s', said)

    def test_a_step_beyond_its_bound_is_named(self):
        said, status = run_steps('50 tests\n1 format\n', '# of two\n40 tests\n5 format\n100 total\n')
        self.assertEqual(status, 0)
        self.assertIn('tests took 50 s, more than its 40 s', said)
        self.assertNotIn('format took', said)

    def test_a_run_beyond_the_total_is_named(self):
        said, status = run_steps('150 tests\n', '90 tests\n100 total\n')
        self.assertEqual(status, 0)
        self.assertIn('all steps took 150 s, more than 100 s', said)

    def test_bounds_beyond_the_total_fail(self):
        self.assertEqual(run_steps('1 tests\n', '90 tests\n20 format\n100 total\n')[1], 1)

    def test_the_budget_of_the_tree_covers_each_step_of_its_run(self):
        script = (TOP / '.ci/run').read_text()
        steps = set()
        for line in script.splitlines():
            words = line.split()
            if words[:1] in (['step'], ['sanitized']) and words[1] not in ('end', '"$name"'):
                steps.add(words[1])
        budget = {line.split()[1]: int(line.split()[0]) for line in (TOP / '.ci/budget').read_text().splitlines()
                  if not line.startswith('#')}
        self.assertEqual(set(budget), steps | {'total'})
        self.assertLessEqual(sum(budget.values()), 2 * budget['total'])
        self.assertEqual(budget['total'], 45 * 60)


if __name__ == '__main__':
    unittest.main()
