#!/usr/bin/env python3
"""Tests the rules: each finds what it is for, and leaves alone what only looks like it."""
import contextlib
import io
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

import commits
import headers
import language
import tidy
import tree
import umbrella

GOOD = {
    'runtime/meson.build': "files('ring.cpp')\ninstall_headers('ring.hpp')\n",
    'runtime/ring.hpp': '#pragma once\nint ring();\n',
    'runtime/ring.cpp': '#include <kevring/runtime/ring.hpp>\n\nint ring() { return 1; }\n',
}


@contextlib.contextmanager
def tree_of(files):
    """A folder with GOOD and `files`, and the include/kevring/ that belongs to them.

    None removes a file of GOOD.
    """
    with tempfile.TemporaryDirectory() as folder:
        links = pathlib.Path(folder, 'include/kevring')
        links.mkdir(parents=True)
        for name in tree.LIBRARY:
            pathlib.Path(folder, name).mkdir()
            (links / name).symlink_to(f'../../{name}')
        for name, text in {**GOOD, **files}.items():
            if text is not None:
                path = pathlib.Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
        if 'include/kevring/kevring.hpp' not in files:
            (links / 'kevring.hpp').write_text('#pragma once\n' + ''.join(
                line + '\n' for line in umbrella.lines_of(tree.Tree(folder))))
            with pathlib.Path(folder, 'meson.build').open('a') as build:
                build.write("install_headers('include/kevring/kevring.hpp')\n")
        yield folder


def findings(files):
    with tree_of(files) as folder:
        return tidy.findings(folder)


class Rules(unittest.TestCase):
    """`files` break exactly one rule, or none."""

    def finds(self, rule, files, times=1):
        found = findings(files)
        self.assertEqual([f[0] for f in found], [rule] * times, found)
        return found

    def passes(self, files):
        self.assertEqual(findings(files), [])

    def coroutine(self, *lines):
        body = ''.join(f'    {line}\n' for line in lines)
        return {'runtime/ring.cpp': f'task<int> f(std::stop_token stop) {{\n{body}}}\n'}

    def finds_await(self, *lines):
        self.finds('awaits', self.coroutine(*lines))

    def passes_await(self, *lines):
        self.passes(self.coroutine(*lines))


class Layers(Rules):
    def header(self, folder, *includes):
        return {f'{folder}/meson.build': "install_headers('part.hpp')\n",
                f'{folder}/part.hpp': ''.join(f'#include <{i}>\n' for i in includes)}

    def test_a_good_tree_has_no_findings(self):
        self.passes({})

    def test_a_lower_layer_is_included(self):
        self.passes(self.header('net', 'kevring/runtime/ring.hpp'))

    def test_an_upper_layer_is_not(self):
        self.finds('layers', {**self.header('net'),
                              'runtime/ring.hpp': '#include <kevring/net/part.hpp>\n'})

    def test_siblings_do_not_know_each_other(self):
        self.finds('layers', {**self.header('net'),
                              **self.header('kevent', 'kevring/net/part.hpp')})

    def test_only_the_calls_of_a_queue_include_it_in_sendfile(self):
        queue = self.header('kevent')
        include = '#include <kevring/kevent/part.hpp>\n'
        calls = {'sendfile/meson.build': "files('aio/calls.cpp', 'plan.cpp')\n", 'sendfile/plan.cpp': '',
                 'sendfile/aio/calls.cpp': include, **queue}
        self.passes(calls)
        self.finds('layers', {**calls, 'sendfile/plan.cpp': include})
        self.finds('layers', {**calls, 'sendfile/aio/calls.hpp': '#pragma once\n',
                              'sendfile/plan.cpp': '#include <kevring/sendfile/aio/calls.hpp>\n'})

    def test_the_library_does_not_include_all_of_itself(self):
        self.finds('layers', self.header('net', 'kevring/kevring.hpp'))

    def test_a_header_that_is_not_there_is_not_included(self):
        self.finds('layers', self.header('net', 'kevring/runtime/gone.hpp'))

    def test_an_include_by_the_path_in_the_tree(self):
        self.finds('layers', {'runtime/ring.cpp': '#include "runtime/ring.hpp"\n'})

    def test_an_example_uses_public_headers(self):
        private = {'runtime/detail/part.hpp': '#pragma once\n',
                   'runtime/ring.cpp': '#include <kevring/runtime/detail/part.hpp>\n',
                   'examples/meson.build': "executable('echo', 'echo.cpp')\n"}
        self.passes({**private, 'examples/echo.cpp': '#include <kevring/kevring.hpp>\n'})
        self.finds('layers', {
            **private, 'examples/echo.cpp': '#include <kevring/runtime/detail/part.hpp>\n'})

    def httpd(self, name, include):
        """A tree in which the file `name` of examples/httpd/ includes `include`."""
        files = {'http/target.cpp': '"target.hpp"', 'content/root.cpp': '"../http/target.hpp"',
                 'serving/worker.cpp': '"worker.hpp"', name: include}
        built = ', '.join(f"'{n}'" for n in files)
        return {'examples/httpd/meson.build': f'files({built})\n',
                'examples/httpd/http/target.hpp': '#pragma once\n',
                'examples/httpd/serving/worker.hpp': '#pragma once\n',
                **{f'examples/httpd/{n}': f'#include {i}\n' for n, i in files.items()},
                'examples/httpd/control/meson.build': "files('main.cpp')\n",
                'examples/httpd/control/main.cpp':
                    '#include "../http/target.hpp"\n#include "../serving/worker.hpp"\n'}

    def test_the_folders_of_httpd_include_downwards_only(self):
        self.passes(self.httpd('content/root.cpp', '"examples/httpd/http/target.hpp"'))
        self.passes(self.httpd('content/root.cpp', '"../http/target.hpp"'))
        self.finds('layers', self.httpd('content/root.cpp', '"examples/httpd/serving/worker.hpp"'))
        self.finds('layers', self.httpd('content/root.cpp', '"../serving/worker.hpp"'))
        self.finds('layers', self.httpd('new/part.cpp', '"examples/httpd/http/target.hpp"'))

    def test_the_protocol_of_httpd_includes_nothing_of_kevring(self):
        self.passes(self.httpd('content/root.cpp', '<kevring/runtime/ring.hpp>'))
        self.finds('layers', self.httpd('http/target.cpp', '<kevring/runtime/ring.hpp>'))

    def test_a_foreign_library_comes_in_by_its_door(self):
        for header in ('liburing.h', 'linux/io_uring.h', 'asio.hpp', 'asio/ip/tcp.hpp',
                       'range/v3/all.hpp', 'catch2/catch.hpp', 'benchmark/benchmark.h',
                       'CLI/CLI.hpp', 'fmt/core.h'):
            with self.subTest(header=header):
                self.finds('layers', {'runtime/ring.cpp': f'#include <{header}>\n'})

    def test_the_doors_are_open(self):
        self.passes({'runtime/detail/uring.hpp': '#include <liburing.h>\n',
                     'runtime/ring.cpp': '#include <kevring/runtime/detail/uring.hpp>\n'})
        self.passes({'tests/meson.build': "files('support/main.cpp')\n",
                     'tests/support/catch.hpp': '#include <catch2/catch.hpp>\n',
                     'tests/support/main.cpp': '#include "tests/support/catch.hpp"\n'})

    def test_a_comment_includes_nothing(self):
        self.passes({'runtime/ring.cpp': '// before:\n/*\n#include <liburing.h>\n*/\n'})


class Assertions(Rules):
    def file(self, call, page='| `socket closed; open it` | ... |\n'):
        return {'runtime/ring.cpp': f'void f(int a) {{ {call}; }}\n', 'docs/assertions.md': page}

    def test_a_text_with_mistake_and_remedy(self):
        self.passes(self.file('KEVRING_ASSERT(a == 1, "socket closed; open it")'))
        self.passes(self.file('KEVRING_ASSERT(g(a, ")"), "socket "\n "closed; open it")'))
        self.passes(self.file('KEVRING_ASSERT_AT(a, "socket closed; open it", here)'))
        self.passes(self.file('KEVRING_ASSERT_SLOW(a, "socket closed; open it")'))

    def test_a_text_without_a_remedy(self):
        for text in ('socket closed', 'socket closed;', 'socket closed; ', 'a; b; c'):
            with self.subTest(text=text):
                self.finds('assertions', self.file(f'KEVRING_ASSERT(a, "{text}")', ''))

    def test_no_text(self):
        self.finds('assertions', self.file('KEVRING_ASSERT(a == 1)', ''))
        self.finds('assertions', self.file('KEVRING_ASSERT(f(a, 1))', ''))

    def test_a_text_that_the_page_does_not_list(self):
        self.finds('assertions', self.file('KEVRING_ASSERT(a, "no socket; pass one")', ''))
        self.passes(self.file('KEVRING_ASSERT(a, "internal error: lost; report it")', ''))

    def test_a_row_without_an_assertion(self):
        self.finds('assertions', self.file('f(a)'))

    def test_a_comment_asserts_nothing(self):
        self.passes(self.file('f(a); // KEVRING_ASSERT(a)', ''))


class Awaits(Rules):
    def run_on(self, folder):
        script = pathlib.Path(__file__).with_name('awaits.py')
        return subprocess.run([sys.executable, '-B', script, folder], capture_output=True, text=True, check=False)

    def test_the_program_prints_the_places_and_fails(self):
        with tree_of(self.coroutine('if (co_await g()) h();')) as folder:
            done = self.run_on(folder)
        self.assertEqual(done.returncode, 1)
        self.assertTrue(done.stdout.startswith('runtime/ring.cpp:2: g++ 12 loses'), done.stdout)
        self.assertTrue(done.stdout.endswith('\n1 findings\n'), done.stdout)

    def test_the_program_passes_a_tree_without_such_a_place(self):
        with tree_of({}) as folder:
            done = self.run_on(folder)
        self.assertEqual((done.returncode, done.stdout), (0, '0 findings\n'))

    def test_the_program_fails_without_a_folder(self):
        self.assertNotEqual(self.run_on('/no/such/folder').returncode, 0)

    def test_an_await_in_a_condition(self):
        self.finds_await('if (co_await g()) co_return 1;', 'co_return 2;')
        self.finds_await('if (!co_await g() || h()) co_return 1;', 'co_return 2;')
        self.finds_await('switch (co_await g()) {', '    default: co_return 1;', '}')
        self.finds_await('if (h(); co_await g()) co_return 1;')

    def test_an_await_that_is_named_first(self):
        self.passes_await('if (auto v = co_await g(); v) co_return 1;', 'co_return 2;')
        self.passes_await('switch (auto v = co_await g(); v) {', '    default: co_return 1;', '}')
        self.passes_await('while (auto v = co_await g()) h(v);', 'co_return co_await g() ? 1 : 2;')
        self.passes_await('while (const std::optional<int>& v = co_await g()) h(*v);')
        self.passes_await('for (int i = 0; i < 3; ++i) co_await g();')
        self.passes_await('for (bool more = true; more; more = co_await g()) h();')
        self.passes_await('for (auto v : co_await g()) h(v);')
        self.passes_await('while (more) more = co_await g();', 'do { co_await g(); } while (more);')
        self.passes_await('if constexpr (deep) co_await g();')

    def test_an_await_in_the_condition_of_a_loop(self):
        self.finds_await('while (co_await g()) h();')
        self.finds_await('while (!co_await g()) {', '    h();', '}')
        self.finds_await('while (true && co_await g()) h();')
        self.finds_await('while (', '    h() &&', '    co_await g()', ') h();')
        self.finds_await('while ((co_await g()) == true) h();')
        self.finds_await('while (more = co_await g()) h();')
        self.finds_await('while (a.more = co_await g()) h();')
        self.finds_await('while (h(), co_await g());')
        self.finds_await('for (; co_await g();) h();')
        self.finds_await('for (;', '     !co_await g();', '     ++n) {', '    h();', '}')
        self.finds_await('do h(); while (co_await g());')
        self.finds_await('do {', '    h();', '} while (', '    co_await g());')
        self.finds_await('try { while (co_await g()) h(); } catch (...) {}')
        self.finds_await('auto t = [&]() -> task<int> { while (co_await g()) h(); };')
        self.finds_await('h([&] { return 1; }, [&]() -> task<int> {', '    do h();',
                         '    while (co_await g());', '});')

    def test_an_operator_is_not_an_await(self):
        self.passes_await('if constexpr (requires { a.operator co_await(); }) h();')

    def test_a_lambda_that_copies(self):
        self.finds_await('co_await f([s] { return s; });')
        self.finds_await('co_await f([s = std::move(s)]() mutable { return s; });')
        self.finds_await('co_await f(1, [&, s](int i) -> int { return s + i; });')
        self.finds_await('auto r = co_await f(std::function<int()>([=] { return s; }));')

    def test_a_lambda_that_copies_beside_an_await(self):
        self.finds_await('const int n = h([s] { return s; }) + co_await g();')
        self.finds_await('const int n = co_await g() + h([s] { return s; });')
        self.finds_await('h([t = std::move(s)] { return t; }, co_await g());')
        self.passes_await('h([s] { return s; });', 'co_await g();')
        self.passes_await('co_await g();', 'auto t = [s]() -> task<int> { co_return co_await g(); };')
        self.passes_await('spawn([s]() -> task<int> { co_await g(); }());')

    def test_a_lambda_that_copies_nothing(self):
        self.passes_await('co_await f([] { return 1; });')
        self.passes_await('co_await f([&] { return s; });', 'co_await f([&s, this] { h(); });')
        self.passes_await('auto body = [s] { return s; };', 'co_await f(body);')
        self.passes_await('co_await f(table[index], buffers[0][n]);')

    def test_a_braced_argument(self):
        self.finds_await('co_await f({.n = 4, .st = stop});')
        self.finds_await('co_await f(1, {1, 2});')
        self.finds_await('co_await f(options{.n = 4});')
        self.finds_await('co_await f(options{stop, 4});')
        self.finds_await('co_await f(std::vector<int>{1});')

    def test_a_braced_argument_beside_an_await(self):
        self.finds_await('const int n = h({.n = 4}) + co_await g();')
        self.finds_await('const int n = h(options{stop, 4}) + co_await g();')
        self.finds_await('const int n = co_await g() + h(options{stop, 4});')
        self.passes_await('h(options{stop, 4});', 'const int n = co_await g();')
        self.passes_await('if (h(options{stop, 4})) co_await g();',
                          'if constexpr (requires { h(1); }) co_await g();',
                          'while (h(options{stop, 4})) n = co_await g();')

    def test_no_braced_argument(self):
        self.passes_await('const options o{.n = 4};', 'co_await f(o);')
        self.passes_await('co_await f(std::string("a"), T{}, 1ms);')
        self.passes_await('for (;;) {', '    co_await g();', '}')
        self.passes_await('f({1, 2});', 'co_await g();')

    def test_an_await_among_elements(self):
        self.finds_await('agg s{track(), co_await g()};')
        self.finds_await('std::vector<int> v = {co_await g(), 2};')

    def test_an_await_in_a_block(self):
        self.passes_await('auto t = [&]() -> task<int> { co_return co_await g(); };',
                          'h(1, [&]() -> task<int> { auto [a, b] = co_await g(); co_return a; });')
        self.passes_await('int v{co_await g()};')

    def test_a_dropped_result(self):
        self.finds_await('co_await s.send(bytes);')
        self.finds_await('if (ready) co_await s.receive();', 'co_return 1;')
        self.finds_await('while (more) {', '    h();', '    co_await listening.accept();', '}')
        self.finds_await('co_await kevring::sleep_for(1ms);')
        self.finds_await('co_await timer(', '    1s);')

    def test_a_result_that_is_used(self):
        self.passes_await('const auto sent = co_await s.send(bytes);', 'h(co_await s.receive());')
        self.passes_await('static_cast<void>(co_await s.send(bytes));', '(void)co_await s.send(b);')
        self.passes_await('co_return co_await s.send(bytes);', 'co_await yield();', 'co_await g();')
        self.passes_await('co_await accept(listening);', 'co_await in_scope(body);', 'n += *co_await s.send(bytes);')

    def test_words_in_comments_and_literals(self):
        self.passes_await('// if (co_await g())', 'h("if (co_await g())");',
                          'h(R"(switch (co_await g()))");', 'co_return co_await g();')

    def test_the_line_is_named(self):
        found = self.finds('awaits', self.coroutine('/* one', '   two */', 'if (co_await g()) h();'))
        self.assertEqual(found[0][1:3], ('runtime/ring.cpp', 4))


class Orphans(Rules):
    def test_a_source_that_is_not_built(self):
        self.finds('orphans', {'runtime/more.cpp': 'int more;\n'})
        self.finds('orphans', {'runtime/more.cpp': 'int more;\n',
                               'runtime/meson.build': "files('ring.cpp')  # 'more.cpp'\n"
                                                      "install_headers('ring.hpp')\n"})

    def test_a_public_header_that_is_not_installed(self):
        self.finds('orphans', {'runtime/more.hpp': 'int more;\n'}, times=2)

    def test_a_private_header_that_no_file_includes(self):
        self.finds('orphans', {'runtime/detail/more.hpp': 'int more;\n'})

    def test_an_installed_header_needs_one_that_is_not(self):
        private = {'runtime/detail/more.hpp': 'int more;\n',
                   'runtime/ring.hpp': '#include <kevring/runtime/detail/more.hpp>\n'}
        self.finds('orphans', private)
        self.passes({**private, 'runtime/meson.build':
                     "files('ring.cpp')\ninstall_headers('ring.hpp', 'detail/more.hpp')\n"})

    def test_a_private_header_that_is_installed_without_a_user(self):
        self.finds('orphans', {
            'runtime/detail/more.hpp': 'int more;\n',
            'runtime/ring.cpp': '#include <kevring/runtime/detail/more.hpp>\n',
            'runtime/meson.build':
                "files('ring.cpp')\ninstall_headers('ring.hpp', 'detail/more.hpp')\n"})


class Standard(Rules):
    LANGUAGE = {'runtime/detail/language.hpp': '#pragma once\n#error\n'}
    RING = {'runtime/ring.hpp': '#pragma once\n#include <kevring/runtime/detail/language.hpp>\n',
            'runtime/meson.build':
            "files('ring.cpp')\ninstall_headers('ring.hpp', 'detail/language.hpp')\n"}

    def test_a_header_without_another_of_ours_includes_that_of_the_language(self):
        part = 'runtime/detail/part.hpp'
        user = {'runtime/ring.cpp': f'#include <kevring/runtime/ring.hpp>\n#include <kevring/{part}>\n'}
        base = {**self.LANGUAGE, **self.RING, **user}
        self.passes({**base, part: '#include <kevring/runtime/detail/language.hpp>\n'})
        self.passes({**base, part: '#include <kevring/runtime/ring.hpp>\n'})
        self.finds('standard', {**base, part: '#include <vector>\n'})
        self.finds('standard', {**base, part: '// #include <kevring/runtime/ring.hpp>\n'})


class Umbrella(Rules):
    INSTALL = {'meson.build': "install_headers('include/kevring/kevring.hpp')\n"}

    def kevring(self, *lines):
        return {**self.INSTALL,
                'include/kevring/kevring.hpp': ''.join(f'{line}\n' for line in lines)}

    def finds_in_folder(self, change):
        with tree_of({}) as folder:
            change(pathlib.Path(folder, 'include/kevring'))
            return [f for f in tidy.findings(folder) if f[0] == 'umbrella']

    def test_every_public_header_is_included(self):
        self.passes(self.kevring('#pragma once', '#include <kevring/runtime/ring.hpp>'))
        self.finds('umbrella', self.kevring('#pragma once'))
        self.finds('umbrella', self.kevring('// #include <kevring/runtime/ring.hpp>'))

    def test_a_public_header_of_a_sub_folder_is_included(self):
        more = {'runtime/operations/more.hpp': 'int more;\n', 'runtime/meson.build':
                "files('ring.cpp')\ninstall_headers('ring.hpp', 'operations/more.hpp')\n"}
        self.passes(more)
        self.finds('umbrella', {**more, **self.kevring('#include <kevring/runtime/ring.hpp>')})

    def test_a_private_header_is_not(self):
        private = {'runtime/detail/part.hpp': 'int part;\n',
                   'runtime/ring.hpp': '#include <kevring/runtime/detail/part.hpp>\n',
                   'runtime/meson.build':
                   "files('ring.cpp')\ninstall_headers('ring.hpp', 'detail/part.hpp')\n"}
        self.passes(private)
        self.finds('umbrella', {**private, **self.kevring(
            '#include <kevring/runtime/detail/part.hpp>', '#include <kevring/runtime/ring.hpp>')})

    def test_the_includes_are_sorted_and_each_is_written_once(self):
        more = {'runtime/more.hpp': 'int more;\n',
                'runtime/meson.build': "files('ring.cpp')\ninstall_headers('ring.hpp', 'more.hpp')\n"}
        ring, other = ('#include <kevring/runtime/ring.hpp>', '#include <kevring/runtime/more.hpp>')
        self.passes({**more, **self.kevring(other, ring)})
        self.finds('umbrella', {**more, **self.kevring(ring, other)})
        self.finds('umbrella', {**more, **self.kevring(other, ring, ring)})

    def test_the_links_are_present(self):
        self.assertEqual(self.finds_in_folder(lambda links: None), [])
        self.assertEqual(len(self.finds_in_folder(lambda links: (links / 'net').unlink())), 1)

    def test_a_link_points_at_its_folder(self):
        def change(links):
            (links / 'net').unlink()
            (links / 'net').symlink_to('../../runtime')
        self.assertEqual(len(self.finds_in_folder(change)), 1)

    def test_a_link_works_in_every_checkout(self):
        def change(links):
            (links / 'net').unlink()
            (links / 'net').symlink_to(links.parent.parent / 'net')
        self.assertEqual(len(self.finds_in_folder(change)), 1)

    def test_a_tree_without_the_header(self):
        def change(links):
            (links / 'kevring.hpp').unlink()
        self.assertEqual(len(self.finds_in_folder(change)), 1)


class Words(Rules):
    def test_paths_of_one_machine(self):
        for path in ('/home/ann' + '/x', '/Users/ann' + '/x', '/root' + '/x', '/mnt/disk' + '/x'):
            with self.subTest(path=path):
                self.finds('words', {'notes.md': f'see {path}\n'})

    def test_the_folder_of_the_checkout(self):
        with tree_of({}) as folder:
            pathlib.Path(folder, 'notes.md').write_text(f'see {folder}/runtime\n')
            self.assertEqual([f[0] for f in tidy.findings(folder)], ['words'])

    def test_paths_that_every_system_has(self):
        self.passes({'notes.md': 'see /usr/include, /proc/self/fd, /etc/mime.types and /tmp\n'})

    def test_an_address_of_ones_own(self):
        self.finds('words', {'notes.md': 'https://mirror.' + 'internal/debian\n'})
        self.passes({'notes.md': 'https://man7.org/linux http://127.0.0.1:8080\n'})

    def test_open_work_says_which_and_when(self):
        self.finds('words', {'runtime/ring.cpp': '// TO' + 'DO: soon\n'})
        self.finds('words', {'runtime/ring.cpp': '// FIX' + 'ME\n'})
        self.passes({'runtime/ring.cpp': '// TODO(perf): batch these, once they show up\n'})

    def test_white_space(self):
        self.finds('words', {'notes.md': 'a line \n'})
        self.finds('words', {'notes.md': 'a line'})
        self.finds('words', {'notes.md': 'a line\n\n'})
        self.finds('words', {'runtime/ring.cpp': 'int\tring;\n'})


# A rejected and an accepted text for each expression of language.BANNED, in its order.
BANNED_EXAMPLES = (
    ('the buffer goes home', 'the home directory'),
    ('it is told of an end', 'it tells the peer'),
    ('the loop heard a post', 'an unheard value'),
    ('the caller is told', 'the caller told the peer'),
    ('the tidings arrive', 'the tide arrives'),
    ('the peer hangs up', 'the peer hangs'),
    ('written by hand', 'the hand of a clock'),
    ('it was read lately', 'a late read'),
    ('one look is enough', 'a look at the clock'),
    ('it has its turn', 'turn the wheel'),
    ('the last word counts', 'the last words count'),
    ('the door is open', 'the doorway is open'),
    ('it stands in the queue', 'the assertion stands'),
    ('the peer has gone', 'the peer goes'),
    ('it goes over to the other', 'it goes over the limit'),
    ('the loop goes on', 'it goes on to the next'),
    ('it gives way', 'it gives a value'),
    ('the page says so', 'the page says nothing'),
    ('it passes over the entry', 'it passes the entry over'),
    ('it begins anew', 'it begins a new one'),
    ('meanwhile it waits', 'in the meantime it waits'),
    ('so many entries', 'so much memory'),
    ('as good as never', 'as good a choice'),
    ('the twin of it', 'the twine'),
    ('read and its like', 'its likely value'),
    ('the bell rings', 'the belly'),
    ('it bears a name', 'the bear'),
    ('it comes to be ready', 'it comes to a halt'),
    ('what is there now', 'what is here now'),
    ('bytes on their way', 'bytes on the way'),
    ('by way of a post', 'by a way'),
    ('nobody waits', 'no body waits'),
)


class Language(Rules):
    def rules_of(self, text, name='runtime/ring.cpp'):
        return [finding[0] for finding in language.findings_of(name, text)]

    def rejects(self, rule, text, name='runtime/ring.cpp'):
        self.assertIn(rule, self.rules_of(text, name), text)

    def accepts(self, text, name='runtime/ring.cpp'):
        self.assertEqual(self.rules_of(text, name), [], text)

    def test_each_banned_expression(self):
        self.assertEqual(len(BANNED_EXAMPLES), len(language.BANNED))
        for (pattern, _), (bad, good) in zip(language.BANNED, BANNED_EXAMPLES):
            with self.subTest(pattern=pattern.pattern):
                self.assertTrue(pattern.search(bad))
                self.assertTrue(pattern.search(bad.upper()))
                self.assertFalse(pattern.search(good))

    def test_banned_expressions_are_found_everywhere(self):
        self.rejects('banned', '// Nobody waits.\n')
        self.rejects('banned', '// The loop is\n// told by a post.\n')
        self.rejects('banned', 'log("the peer has gone");\n')
        self.rejects('banned', 'TEST_CASE("nobody waits") {}\n')
        self.rejects('banned', '/* Nobody waits. */\n')
        self.rejects('banned', 'A buffer goes home.\n', 'docs/notes.md')
        self.rejects('banned', '| a | nobody |\n', 'docs/notes.md')
        self.accepts('```\nnobody\n```\n\n    nobody\n\n`nobody` is a user.\n', 'docs/notes.md')
        self.accepts('int nobody = 1;\n')
        self.accepts('#include "nobody.hpp"\n')

    def test_scripts_and_build_files_are_read(self):
        self.rejects('subject', 'a = 1  # What waits\n', 'tests/notes.py')
        self.rejects('subject', 'def wait():\n    """What waits."""\n', 'tests/notes.py')
        self.rejects('banned', '# The loop is\n# told by a post.\n', 'tests/notes.py')
        self.rejects('banned', 'fail("the peer has gone")\n', 'tests/notes.py')
        self.rejects('banned', '#!/usr/bin/env python3\n# Nobody waits.\n', 'scripts/wait')
        self.rejects('banned', '#!/bin/sh\n# Nobody waits.\n', 'scripts/wait')
        self.rejects('banned', '# Nobody waits.\n', 'tests/meson.build')
        self.accepts('nobody = user("nobody")  # The user.\n', 'tests/notes.py')
        self.accepts('#!/bin/sh\nchown nobody file\n', 'scripts/wait')

    def test_a_sentence_has_a_subject(self):
        self.rejects('subject', '// What waits is resumed.\n')
        self.rejects('subject', '// A stop ends it. Whoever waits is resumed.\n')
        self.rejects('subject', '/// Thread     Who waits.\n')
        self.rejects('subject', '- one\n- What follows\n', 'docs/notes.md')
        self.accepts('// What waits here?\n')
        self.accepts('// The waiter is resumed.\n')
        self.accepts('// whatever it is\n')

    def test_the_head_of_a_file_is_a_noun_phrase(self):
        self.rejects('head', '// ring.hpp: what a loop does.\n')
        self.accepts('// ring.hpp: the loop of one thread.\n')
        self.accepts('int a;\n\n// ring.hpp: what a loop does.\n')

    def test_for_who(self):
        self.rejects('for_who', '// A place for who waits.\n')
        self.rejects('for_who', '// The thread, whoever it is.\n')
        self.accepts('// A place for the waiter, who waits.\n')

    def test_the_names_of_tests(self):
        self.rejects('test_name', 'TEST_CASE("what waits is resumed", "[a]") {}\n')
        self.rejects('test_name', 'TEST_CASE(\n    "a place for who waits", "[a]") {}\n')
        self.accepts('TEST_CASE("the waiter is resumed", "[a]") {}\n')
        self.accepts('log("what waits");\n')

    def test_prepositions_are_no_names(self):
        for name in ('of', 'into', 'on', 'with', 'by', 'in', 'at', 'of_', 'on_', 'at_'):
            with self.subTest(name=name):
                self.rejects('preposition', f'int {name} = 1;\n')
        self.accepts('int offset = on_ready(with_stop, by_name, of_type);\n')
        self.accepts('// of, on and by\nlog("of into on");\n#define on 1\n')

    def test_comments_are_joined_to_paragraphs(self):
        self.rejects('subject', '// A stop\n// ends it. What\n// waits is resumed.\n')
        self.accepts('/// Errors     One.\n/// Thread     Any.\nint a; // last\n')

    def test_every_folder_is_checked_but_the_rules_themselves(self):
        names = ('notes.md', 'docs/notes.md', 'anew/notes.md', 'tests/tidy/notes.md')
        with tree_of({name: 'What waits.\n' for name in names}) as folder:
            found = list(language.language(tidy.Tree(folder)))
            self.assertEqual({f[0] for f in found}, set(names[:3]))


class Commits(unittest.TestCase):
    def faults(self, subject):
        return len(list(commits.subject_faults(subject)))

    def test_the_length_of_a_subject(self):
        self.assertEqual(self.faults('runtime: ' + 'a' * 63), 0)
        self.assertEqual(self.faults('runtime: ' + 'a' * 64), 1)

    def test_the_folder_of_a_subject(self):
        for folder in ('runtime', 'net', 'kevent', 'sendfile', 'examples/httpd', 'tests/tidy',
                       'bench', 'docs', 'scripts', 'build', 'ci'):
            with self.subTest(folder=folder):
                self.assertEqual(self.faults(f'{folder}: a claim'), 0)
        for subject in ('a claim', 'runtime a claim', 'Runtime: a claim', 'lib: a claim'):
            with self.subTest(subject=subject):
                self.assertEqual(self.faults(subject), 1)

    def test_only_later_commits_are_checked(self):
        if not shutil.which('git'):
            self.skipTest('there is no git')
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder).resolve()

            def git(*arguments):
                return subprocess.run(
                    ['git', '-C', folder, '-c', 'user.name=a', '-c', 'user.email=a@example.org',
                     *arguments], check=True, capture_output=True, text=True).stdout.strip()
            git('init', '-q')
            git('commit', '-q', '--allow-empty', '-m', 'an old one')
            base = git('rev-parse', 'HEAD')
            self.assertEqual(commits.subjects_after(root, base), [])
            git('commit', '-q', '--allow-empty', '-m', 'a new one')
            self.assertEqual([s for _, s in commits.subjects_after(root, base)], ['a new one'])

    def test_without_history_there_is_nothing_to_check(self):
        with tree_of({}) as folder:
            self.assertEqual(commits.subjects_after(pathlib.Path(folder).resolve(), 'HEAD'), [])


class Documents(Rules):
    def test_code_that_is_shown_stands_in_a_file(self):
        show = '<!-- runtime/ring.cpp -->\n```cpp\nint {}() {{ return 1; }}\n```\n'
        self.passes({'notes.md': show.format('ring')})
        self.finds('documents', {'notes.md': show.format('thing')})
        self.finds('documents', {'notes.md': show.format('ring').replace('ring.cpp', 'gone.cpp')})

    def test_links_lead_somewhere(self):
        self.passes({'docs/notes.md': 'see [the ring](../runtime/ring.hpp#top)\n'})
        self.finds('documents', {'docs/notes.md': 'see [the ring](runtime/ring.hpp)\n'})


    def test_design_notes_are_numbered_and_indexed(self):
        index = {'docs/design/README.md': '[1](0001-a.md)\n', 'docs/design/0001-a.md': 'a\n'}
        self.passes(index)
        self.finds('documents', {'docs/design/0001-a.md': 'a\n'})
        self.finds('documents', {**index, 'docs/design/README.md':
                                 '[1](0001-a.md) [2](0001-b.md)\n',
                                 'docs/design/0001-b.md': 'b\n'})
        self.finds('documents', {'docs/design/README.md': '[n](note.md)\n',
                                 'docs/design/note.md': 'n\n'})


class Headers(unittest.TestCase):
    def compile(self, files, times=1):
        compiler = shutil.which('c++')
        with tree_of(files) as folder:
            for _ in range(times):
                failures, compiled = headers.check(folder, f'{folder}/cache', [compiler])
            return len(failures), compiled

    def test_a_header_that_needs_another_first(self):
        self.assertEqual(self.compile({'runtime/part.hpp': '#pragma once\nstd::string s();\n'}),
                         (1, 2))

    def test_a_header_without_a_guard(self):
        self.assertEqual(self.compile({'runtime/part.hpp': 'struct part {};\n'})[0], 1)

    def test_a_text_that_has_passed_is_not_compiled_again(self):
        self.assertEqual(self.compile({}, times=2), (0, 0))

    def test_a_text_that_failed_is_compiled_again(self):
        self.assertEqual(self.compile({'runtime/part.hpp': 'struct part {};\n'}, times=2), (1, 1))

    def test_a_header_that_warns_users(self):
        shadows = '#pragma once\nstruct part { part(int n) : n(n) {} int n; };\n'
        self.assertEqual(self.compile({'runtime/part.hpp': shadows})[0], 1)
        self.assertEqual(self.compile({'runtime/detail/part.hpp': shadows})[0], 0)
        self.assertEqual(self.compile({'net/part.hpp': '#pragma once\ninline int f(long n) { return n; }\n'})[0], 1)

    def test_a_header_that_older_languages_misread(self):
        path = 'runtime/detail/language.hpp'
        text = pathlib.Path(__file__).parents[2].joinpath(path).read_text()
        checked = f'#pragma once\n#include <kevring/{path}>\n'
        tree = {path: text, 'runtime/ring.hpp': checked}
        self.assertEqual(self.compile({**tree, 'net/part.hpp': '#pragma once\nint part();\n'})[0], 1)
        self.assertEqual(self.compile({**tree, 'net/part.hpp': checked})[0], 0)

    def test_c_headers_are_c(self):
        self.assertEqual(self.compile({'kevent/part.h': '#pragma once\nint f(bool);\n'})[0], 1)


class Whole(unittest.TestCase):
    def test_the_exit_status(self):
        with contextlib.redirect_stdout(io.StringIO()) as said:
            with tree_of({}) as folder:
                self.assertEqual(tidy.main(folder), 0)
            with tree_of({'runtime/more.cpp': 'int more;\n'}) as folder:
                self.assertEqual(tidy.main(folder), 1)
        self.assertIn('runtime/more.cpp:1: ', said.getvalue())


if __name__ == '__main__':
    unittest.main()
