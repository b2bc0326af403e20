#!/usr/bin/env python3
"""Tests the parts of tests/kernels/run that need no machine."""
import importlib.machinery
import importlib.util
import io
import lzma
import pathlib
import re
import stat
import subprocess
import tempfile
import unittest

SCRIPT = pathlib.Path(__file__).with_name('run')
loader = importlib.machinery.SourceFileLoader('kernels', str(SCRIPT))
kernels = importlib.util.module_from_spec(importlib.util.spec_from_loader('kernels', loader))
loader.exec_module(kernels)


def meson_test(name, command, **others):
    return {'name': name, 'cmd': command, 'env': {}, 'timeout': 30, **others}


class Selection(unittest.TestCase):
    TESTS = [
        meson_test('net', ['/b/tests/net/test_net']),
        meson_test('sendfile-send', ['/b/tests/sendfile/test_sendfile', '[sendfile]'],
                   env={'KEVRING_SEND_PATH': 'send'}, timeout=300),
        meson_test('tidy', ['/usr/bin/python3', '/tree/tests/tidy/tidy.py']),
        meson_test('corpus', ['/b/tests/fuzz/parser', '/tree/tests/fuzz/seeds']),
    ]

    def names(self, *patterns):
        return [each.name for each in kernels.select(self.TESTS, '/b', patterns)]

    def test_every_program_but_no_script_and_none_that_reads_the_tree(self):
        self.assertEqual(self.names(), ['net', 'sendfile-send'])

    def test_a_name_or_a_pattern_selects(self):
        self.assertEqual(self.names('net'), ['net'])
        self.assertEqual(self.names('send*'), ['sendfile-send'])
        self.assertEqual(self.names('other'), [])

    def test_the_plan_has_each_program_once_for_each_user(self):
        programs = kernels.select(self.TESTS, '/b', ('sendfile-send',))
        plan = kernels.plan_of(['ext4'], programs, kernels.USERS, 10).splitlines()
        self.assertEqual(plan[:2], ['MODULE\t/modules/ext4.ko', 'DISK\text4'])
        self.assertEqual(plan[2].split('\t'), [
            'RUN', 'sendfile-send', 'root', '3000', '/tmp', '2', 'KEVRING_SEND_PATH=send',
            'KEVRING_TEST_TIMEOUT_MULTIPLIER=10',
            '/programs/b/tests/sendfile/test_sendfile', '[sendfile]'])
        self.assertEqual(plan[3].split('\t')[1:3], ['sendfile-send', 'ordinary'])


class Modules(unittest.TestCase):
    def test_a_module_follows_those_that_it_needs(self):
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            (folder / 'ext4.ko').write_bytes(b'\0license=GPL\0depends=jbd2,mbcache\0')
            (folder / 'jbd2.ko.xz').write_bytes(lzma.compress(b'\0depends=\0'))
            (folder / 'mbcache.ko').write_bytes(b'\0depends=crc-x\0')
            (folder / 'crc-x.ko').write_bytes(b'\0name=crc_x\0')
            order = kernels.modules_in_order(('built_in', 'ext4'), kernels.find_modules(folder))
        self.assertEqual([each for each, _ in order], ['jbd2', 'crc_x', 'mbcache', 'ext4'])
        self.assertEqual(order[0][1], b'\0depends=\0')


class Image(unittest.TestCase):
    def test_the_archive_has_each_folder_before_its_files_and_ends_as_the_kernel_wants(self):
        target = io.BytesIO()
        archive = kernels.Archive(target)
        archive.add('a/b', stat.S_IFREG | 0o755, b'text')
        archive.add('a/c', stat.S_IFREG | 0o644)
        archive.close()
        entries, data, place = [], target.getvalue(), 0
        while place < len(data):
            self.assertEqual(data[place:place + 6], b'070701')
            fields = [int(data[place + 6 + 8 * i:place + 14 + 8 * i], 16) for i in range(13)]
            end = place + 110 + fields[11]
            name = data[place + 110:end - 1].decode()
            end += -end % 4
            entries.append((name, fields[1], data[end:end + fields[6]]))
            place = end + fields[6]
            place += -place % 4
        self.assertEqual(entries, [('a', stat.S_IFDIR | 0o755, b''), ('a/b', stat.S_IFREG | 0o755, b'text'),
                                   ('a/c', stat.S_IFREG | 0o644, b''), ('TRAILER!!!', 0, b'')])


class Reports(unittest.TestCase):
    def test_each_program_has_its_end_and_its_output(self):
        release, results, complete = kernels.read_report(
            'KERNEL\t6.1.0\t#1\nBEGIN\tnet\troot\nAll tests passed\n\n'
            'END\tnet\troot\tEXIT\t0\t1.5\nBEGIN\tnet\tordinary\nwrong\n\n'
            'END\tnet\tordinary\tEXIT\t42\t2.0\nDONE\n')
        self.assertEqual((release, complete), ('6.1.0', True))
        self.assertEqual([(each.user, each.passed, each.output) for each in results],
                         [('root', True, 'All tests passed'), ('ordinary', False, 'wrong')])
        self.assertIn('FAIL  net, ordinary: exit status 42', kernels.describe(results[1]))

    def test_a_signal_and_a_passed_deadline_are_failures(self):
        for word in ('SIGNAL', 'TIME'):
            _, results, _ = kernels.read_report(
                f'BEGIN\tnet\troot\nEND\tnet\troot\t{word}\t6\t1.0\nDONE\n')
            self.assertFalse(results[0].passed)

    def test_a_machine_that_ends_early_fails_the_program_that_ran(self):
        for text in ('BEGIN\tnet\troot\nhalf', 'BEGIN\tnet\troot\nBROKEN\tfork: no memory\n'):
            _, results, complete = kernels.read_report(text)
            self.assertFalse(complete or results[0].passed)
        self.assertFalse(kernels.read_report('BROKEN\t/tmp: no device\n')[2])
        self.assertFalse(kernels.read_report('')[2])

    def test_lines_of_a_program_that_look_like_a_report_are_its_output(self):
        _, results, _ = kernels.read_report(
            'BEGIN\tnet\troot\nEND\tother\troot\tEXIT\t0\t1.0\n'
            'END\tnet\troot\tEXIT\t1\t1.0\nDONE\n')
        self.assertEqual([(each.name, each.passed) for each in results], [('net', False)])


class Packages(unittest.TestCase):
    def test_the_mirror_is_the_one_of_the_system(self):
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            with self.assertRaisesRegex(kernels.Failure, 'names no mirror of Debian; add one'):
                kernels.mirror_of_system(folder)
            (folder / 'sources.list').write_text('deb [signed-by=/k] http://other.example/tool x main\n'
                                                 'deb http://a.example/debian bookworm main\n')
            self.assertEqual(kernels.mirror_of_system(folder), 'http://a.example/debian')
            (folder / 'sources.list').unlink()
            (folder / 'sources.list.d').mkdir()
            (folder / 'sources.list.d/debian.sources').write_text('Types: deb\nURIs: http://b.example/debian/\n')
            self.assertEqual(kernels.mirror_of_system(folder), 'http://b.example/debian')

    def test_a_folder_without_a_build_is_named(self):
        with tempfile.TemporaryDirectory() as name:
            done = subprocess.run([str(SCRIPT), '--build', name], capture_output=True, text=True,
                                  check=False)
        self.assertEqual(done.returncode, 2)
        self.assertIn('is no build folder', done.stderr)

    def test_the_list_of_packages_has_the_programs_of_the_script(self):
        packages = (SCRIPT.parents[2] / 'scripts/packages').read_text()
        for command in ('qemu-system-x86_64', 'mke2fs'):
            self.assertRegex(packages, rf'\n\S+ +{re.escape(command)}\n')


if __name__ == '__main__':
    unittest.main()
