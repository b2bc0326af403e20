#!/usr/bin/env python3
"""Tests the scheduler and the report of scripts/bench with jobs that measure nothing."""
import html.parser
import json
import pathlib
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
SUITE = pathlib.Path(__file__).resolve().parents[2] / 'bench/suite'
sys.path.insert(0, str(SUITE))
import report  # noqa: E402  (found by the line above)
import rows  # noqa: E402
import schedule  # noqa: E402


class Clock:
    """Time that passes only while a job runs."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Fixture:
    """Jobs that write their names into `ran`, and take the given seconds of the clock."""

    def __init__(self, folder):
        self.path = pathlib.Path(folder, 'state.jsonl')
        self.clock, self.ran, self.said, self.limits = Clock(), [], [], []

    def job(self, name, seconds, rounds_max=None, takes=None, fails=None):
        def run(seconds_max):
            self.ran.append(name)
            self.limits.append(seconds_max)
            self.clock.now += seconds if takes is None else takes
            if fails:
                raise fails
            return [{'row': name, 'series': 'kevring', 'value': 1.0}]
        return schedule.Job(name, seconds, run, rounds_max)

    def run(self, jobs, rounds, seconds_max=None, key='a run'):
        self.state = schedule.State(self.path, {'key': key})
        return schedule.run_rounds(jobs, rounds, self.state, self.said.append, seconds_max, self.clock)


class Schedule(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.fixture = Fixture(folder.name)

    def test_rounds_are_interleaved(self):
        made = self.fixture
        self.assertEqual(made.run([made.job('a', 1), made.job('b', 1), made.job('once', 1, rounds_max=1)], 2), [])
        self.assertEqual(made.ran, ['a', 'b', 'once', 'a', 'b'])

    def test_progress_has_the_time_left(self):
        made = self.fixture
        made.run([made.job('a', 40), made.job('b', 50)], 1)
        self.assertEqual(made.said, ['[1/2] round 1 of 1: a; 1 min 30 s left', '[2/2] round 1 of 1: b; 50 s left'])

    def test_the_time_limit_leaves_out_jobs_that_would_exceed_it(self):
        made = self.fixture
        self.assertEqual(made.run([made.job('long', 60), made.job('short', 10)], 2, seconds_max=100), [('long', 1)])
        self.assertEqual(made.ran, ['long', 'short', 'short'])
        self.assertLessEqual(made.clock.now, 100)

    def test_a_job_gets_no_more_than_the_time_that_is_left(self):
        made = self.fixture
        made.run([made.job('a', 10), made.job('b', 10)], 1, seconds_max=30)
        self.assertEqual(made.limits, [30, 20])

    def test_the_duration_of_a_round_replaces_the_estimate(self):
        made = self.fixture
        left_out = made.run([made.job('slow', 10, takes=60)], 3, seconds_max=100)
        self.assertEqual((made.ran, left_out), (['slow'], [('slow', 1), ('slow', 2)]))

    def test_an_interrupted_run_continues(self):
        made = self.fixture
        jobs = [made.job('a', 10), made.job('b', 10, fails=KeyboardInterrupt())]
        with self.assertRaises(KeyboardInterrupt):
            made.run(jobs, 2)
        made.run([made.job('a', 10), made.job('b', 10)], 2)
        self.assertEqual(made.ran, ['a', 'b', 'b', 'a', 'b'])
        self.assertEqual(len(made.state.records), 4)

    def test_the_time_limit_includes_the_time_before_an_interruption(self):
        made = self.fixture
        with self.assertRaises(KeyboardInterrupt):
            made.run([made.job('a', 60), made.job('b', 10, fails=KeyboardInterrupt())], 1, seconds_max=100)
        self.assertEqual(made.run([made.job('a', 60), made.job('b', 50)], 1, seconds_max=100), [('b', 0)])

    def test_a_state_that_was_cut_off_while_it_was_written_is_used(self):
        made = self.fixture
        with self.assertRaises(KeyboardInterrupt):
            made.run([made.job('a', 1), made.job('b', 1, fails=KeyboardInterrupt())], 1)
        with made.path.open('a') as file:
            file.write('{"job": "b", "rou')
        made.run([made.job('a', 1), made.job('b', 1)], 1)
        self.assertEqual(made.ran, ['a', 'b', 'b'])

    def test_another_run_and_a_complete_one_begin_again(self):
        made = self.fixture
        with self.assertRaises(KeyboardInterrupt):
            made.run([made.job('a', 1), made.job('b', 1, fails=KeyboardInterrupt())], 1)
        made.run([made.job('a', 1)], 1, key='another commit')
        made.run([made.job('a', 1)], 1, key='another commit')
        self.assertEqual(made.ran, ['a', 'b', 'a', 'a'])

    def test_a_job_that_fails_does_not_end_the_run(self):
        made = self.fixture
        made.run([made.job('a', 1, fails=RuntimeError('no server')), made.job('b', 1, fails=IndexError()), made.job('c', 1)], 1)
        self.assertEqual(made.ran, ['a', 'b', 'c'])
        self.assertIn('no server', made.state.records[0]['failed'])
        self.assertIn('IndexError', made.state.records[1]['failed'])


def sample_row(name='echo/64B/64/cubic', **changes):
    values = {'name': name, 'section': 'echo', 'title': 'echo of <64 B>', 'unit': 'us', 'baseline': 'epoll',
              'measures': 'CPU time of the server.', 'excludes': 'The client.'}
    return rows.Row(**{**values, **changes})


def records(values, row='echo/64B/64/cubic'):
    """One record for each round, from {series: [values]}."""
    count = max(len(each) for each in values.values())
    return [{'job': 'a', 'round': number, 'seconds': 1,
             'samples': [{'row': row, 'series': series, 'value': each[number]} for series, each in values.items() if number < len(each)]}
            for number in range(count)]


class Summary(unittest.TestCase):
    def entry(self, values, further=(), row=None):
        made, _ = report.summarize([row or sample_row()], [*records(values), *further])
        return made[0]

    def test_medians_and_ratios_of_the_rounds(self):
        entry = self.entry({'kevring': [4, 6, 5], 'epoll': [8, 6, 10]})
        self.assertEqual(entry['series']['kevring']['median'], 5)
        self.assertEqual(entry['ratio'], [0.5, 0.5, 1.0])  # 4/8, 6/6, 5/10

    def test_a_row_with_a_disturbed_baseline_is_disturbed(self):
        further = [{'samples': [{'row': 'echo/64B/64/cubic', 'series': 'epoll', 'value': 10, 'disturbed': 'a compiler'}]}]
        self.assertIn('epoll: a compiler', self.entry({'kevring': [5, 5, 5], 'epoll': [10, 10, 10]}, further)['disturbed'])
        self.assertIsNone(self.entry({'kevring': [5, 5, 5], 'epoll': [10, 10, 10], 'asio': [1, 9, 5]})['disturbed'])

    def test_rounds_that_differ_and_missing_rounds_are_marked(self):
        self.assertIn('rounds differ by 20%', self.entry({'kevring': [5, 5.5, 4.5], 'epoll': [10, 10, 10]})['disturbed'])
        self.assertIn('2 rounds', self.entry({'kevring': [5, 5], 'epoll': [10, 10, 10]})['disturbed'])

    def test_calls_are_kept_beside_the_values(self):
        further = [{'samples': [{'row': 'echo/64B/64/cubic', 'series': 'kevring', 'calls': 0.03}]}]
        self.assertEqual(self.entry({'kevring': [5, 5, 5]}, further)['series']['kevring']['calls'], 0.03)

    def test_a_row_without_a_value_is_named(self):
        made, empty = report.summarize([sample_row(), sample_row('absent')], records({'kevring': [1, 1, 1]}))
        self.assertEqual(([entry['row'] for entry in made], empty), (['echo/64B/64/cubic'], ['absent']))

    def left_out(self, *records, beyond_limit=()):
        jobs = [schedule.Job('a job', 1, None, rows=('echo',))]
        return report.left_out(['echo'], records, jobs, beyond_limit)

    def test_a_row_without_a_value_has_its_own_reason(self):
        failed = {'job': 'a job', 'failed': 'RuntimeError: no server'}
        refused = {'job': 'a job', 'samples': [{'row': 'echo', 'series': 'kevring', 'failed': 'no response'}]}
        self.assertEqual(self.left_out(failed), {'echo': 'RuntimeError: no server'})
        self.assertEqual(self.left_out(refused), {'echo': 'kevring: no response'})
        self.assertEqual(self.left_out(beyond_limit={'a job'}), {'echo': 'the time limit was reached'})
        self.assertEqual(self.left_out(), {'echo': 'the run was interrupted'})
        self.assertIn('is missing', self.left_out({'job': 'a job', 'samples': []})['echo'])

    def test_a_job_that_failed_once_is_named_beside_its_rows(self):
        jobs = [schedule.Job('a job', 1, None, rows=('echo',))]
        self.assertEqual(report.left_out([], [{'job': 'a job', 'failed': 'no server'}], jobs, ()), {'a job': 'no server'})

    def test_a_failure_is_no_value(self):
        further = [{'samples': [{'row': 'echo/64B/64/cubic', 'series': 'asio', 'failed': 'no response'}]}]
        self.assertNotIn('asio', self.entry({'kevring': [5, 5, 5]}, further)['series'])

    def test_numbers_have_three_digits(self):
        self.assertEqual([report.number(value) for value in (0, 0.0312, 6.957, 21.64, 236.4, 12345)],
                         ['0', '0.0312', '6.96', '21.6', '236', '12300'])


class Tags(html.parser.HTMLParser):
    """Checks that each element ends, and collects references."""

    VOID = {'meta', 'br', 'circle', 'rect', 'path'}

    def __init__(self):
        super().__init__()
        self.open, self.targets, self.ids = [], [], []

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.targets += [found[key] for key in ('href', 'src') if key in found]
        self.ids += [found['id']] if 'id' in found else []
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag, tag


class Pages(unittest.TestCase):
    def setUp(self):
        entries, _ = report.summarize([sample_row(), sample_row('alone', title='no baseline', baseline='nothing')],
                                      records({'kevring': [5, 5, 5], 'epoll': [10, 10, 10]}) + records({'kevring': [7, 7, 7]}, 'alone'))
        self.report = {'commit': '0123456789ab', 'mode': 'quick', 'date': '2026-01-01', 'compiler': 'gcc 12.2.0', 'rows': entries,
                       'machine': {'cpu': 'A & B', 'cpus': [0, 1], 'kernel': '6.1'}, 'left_out': {'cold:1MiB': 'no <disk>'}}

    def test_the_page_is_complete_in_itself(self):
        page = report.html_page(self.report, rows.SECTIONS)
        tags = Tags()
        tags.feed(page)
        self.assertEqual(tags.open, [])
        self.assertTrue(all(target.startswith('#') and target[1:] in tags.ids for target in tags.targets), tags.targets)
        self.assertNotIn('<script', page)
        self.assertIn('prefers-color-scheme: dark', page)
        self.assertIn('width=device-width', page)
        for text in ('echo of &lt;64 B&gt;', 'CPU time of the server.', 'The client.', 'A &amp; B', 'no &lt;disk&gt;', '0123456789ab'):
            self.assertIn(text, page)

    def test_the_markdown_has_each_row_and_ratio(self):
        text = report.markdown(self.report, rows.SECTIONS)
        self.assertIn('| echo of <64 B> | 5.00 us | **0.50** |', text)
        self.assertIn('| no baseline | 7.00 us |  |', text)
        self.assertIn('`0123456789ab`', text)

    def test_the_report_survives_json(self):
        self.assertEqual(json.loads(json.dumps(self.report)), self.report)


class Published(unittest.TestCase):
    def test_the_figures_of_readme_and_docs_are_those_of_the_published_report(self):
        top = SUITE.parents[1]
        path = top / 'docs/figures.json'
        made = json.loads(path.read_text()) if path.exists() else None
        for name, part in (('docs/figures.md', lambda: report.markdown(made, rows.SECTIONS)), ('README.md', lambda: report.headlines(made))):
            document = (top / name).read_text()
            self.assertEqual(document, report.replaced(document, part() if made else ''), name)  # no report: no figures

    def test_a_part_between_the_marks_is_replaced(self):
        document = f'before\n{report.BEGIN}\nold\n{report.END}\nafter\n'
        self.assertEqual(report.replaced(document, 'new\n'), f'before\n{report.BEGIN}\nnew\n{report.END}\nafter\n')

    def test_the_headlines_have_the_commit_and_the_losses(self):
        entries, _ = report.summarize([sample_row(), sample_row('load:1KiB/cubic')],
                                      records({'kevring': [5, 5, 5], 'epoll': [10, 10, 10]})
                                      + records({'kevring': [3, 3, 3], 'epoll': [2, 2, 2]}, 'load:1KiB/cubic'))
        text = report.headlines({'commit': '0123456789ab', 'machine': {'cpu': 'A', 'cpus': [0], 'kernel': '6.1'}, 'rows': entries})
        for part in ('`0123456789ab`', '| 5.00 us | 0.50 | epoll |', '| 3.00 us | 1.50 | epoll |'):
            self.assertIn(part, text)


class Programs(unittest.TestCase):
    def test_a_program_that_fails_is_reported_by_its_last_line(self):
        import jobs  # imported here: it reads limits of the machine
        with self.assertRaisesRegex(RuntimeError, '^no server$'):
            jobs.output_of([sys.executable, '-c', 'import sys; sys.exit("a traceback\\nno server")'], 60)


class Rows(unittest.TestCase):
    def test_each_row_of_both_runs_says_what_it_measures_and_what_it_does_not(self):
        import jobs  # imported here: it reads limits of the machine
        for full in (False, True):
            made, found = jobs.all_jobs(jobs.Context('/nowhere', 0.1, full), ['cubic', 'reno', 'bbr'])
            names = [row.name for row in found]
            self.assertEqual(len(names), len(set(names)))
            self.assertEqual(len({job.name for job in made}), len(made))
            self.assertEqual({name for job in made for name in job.rows}, set(names))
            for row in found:
                self.assertIn(row.section, rows.SECTIONS)
                self.assertTrue(row.measures.endswith('.') and row.excludes.endswith('.'), row.name)
            if not full:
                self.assertLess(3 * sum(job.seconds for job in made if job.rounds_max is None), 300)


if __name__ == '__main__':
    unittest.main()
