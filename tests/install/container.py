#!/usr/bin/env python3
"""Tests the rule for io_uring in the seccomp profile of a container.

  container.py ALLOW-IO-URING
"""
import json
import subprocess
import sys
import unittest

CALLS = {'io_uring_enter', 'io_uring_register', 'io_uring_setup'}
PROFILE = {
    'defaultAction': 'SCMP_ACT_ERRNO',
    'archMap': [{'architecture': 'SCMP_ARCH_X86_64'}],
    'syscalls': [
        {'names': ['read', 'write'], 'action': 'SCMP_ACT_ALLOW'},
        {'names': ['io_uring_setup', 'bpf'], 'action': 'SCMP_ACT_ERRNO', 'errnoRet': 1},
        {'names': ['io_uring_enter'], 'action': 'SCMP_ACT_ERRNO'},
    ],
}


def converted(text):
    return subprocess.run([PROGRAM], input=text, capture_output=True, text=True, check=False, timeout=60)


class AllowIoUring(unittest.TestCase):
    def test_only_the_rule_for_io_uring_changes(self):
        changed = json.loads(converted(json.dumps(PROFILE)).stdout)
        self.assertEqual(changed['defaultAction'], PROFILE['defaultAction'])
        self.assertEqual(changed['archMap'], PROFILE['archMap'])
        self.assertEqual(changed['syscalls'][:2],
                         [PROFILE['syscalls'][0], {'names': ['bpf'], 'action': 'SCMP_ACT_ERRNO', 'errnoRet': 1}])
        self.assertEqual(set(changed['syscalls'][2]['names']), CALLS)
        self.assertEqual(changed['syscalls'][2]['action'], 'SCMP_ACT_ALLOW')
        self.assertEqual(len(changed['syscalls']), 3)

    def test_a_second_pass_changes_nothing(self):
        once = converted(json.dumps(PROFILE)).stdout
        self.assertEqual(converted(once).stdout, once)

    def test_other_input_is_an_error_that_names_the_remedy(self):
        said = converted('{}')
        self.assertNotEqual(said.returncode, 0)
        self.assertIn('pass the default profile', said.stderr)


if __name__ == '__main__':
    PROGRAM = sys.argv.pop(1)
    unittest.main()
