// Children are started with what the options say, and report how they ended.
#include "tests/support/catch.hpp"
#include "tests/support/descriptor_count.hpp"
#include "tests/support/run_on.hpp"
#include "tests/support/shell_child.hpp"

#include <kevring/runtime/child_process.hpp>
#include <kevring/runtime/when.hpp>

#include <array>
#include <span>
#include <string>
#include <vector>

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

using kevring::child_group;
using kevring::child_options;
using kevring::child_process;
using kevring::child_stream;
using kevring::exit_status;
using kevring::ring;
using kevring::task;

namespace {

constexpr std::size_t text_bytes_max = 4 << 20;

// The standard output of a shell that runs to its end. By reference: g++ 12 destroys a default
// argument of class type twice in an expression with co_await.
task<std::string> output_of(const std::string& script, const child_options& chosen) {
    child_options options = chosen;
    options.output = child_stream::pipe();
    auto child = spawn_shell(script, options);
    std::string text;
    const auto read = co_await child.output().read_all(text, text_bytes_max);
    CHECK(read.has_value());
    const auto ended = co_await child.wait();
    CHECK(ended.value().success());
    co_return text;
}

task<std::string> output_of(const std::string& script) {
    static const child_options defaults;
    return output_of(script, defaults);
}

}  // namespace

TEST_CASE("a child reports its exit code or its signal", "[runtime][child_process]") {
    ring loop;
    auto body = [&]() -> task<void> {
        auto first = spawn_shell("exit 7");
        const auto code = co_await first.wait();
        REQUIRE(code.has_value());
        CHECK(code->kind == exit_status::exit_kind::exited);
        CHECK(code->code == 7);
        CHECK(code->process == first.process());
        CHECK_FALSE(code->success());
        const auto again = co_await first.wait();
        CHECK(again.value().code == 7);
        CHECK(first.signal(SIGTERM).error() == std::errc::no_such_process);

        auto second = spawn_shell("kill -USR1 $$");
        const auto killed = co_await second.wait();
        REQUIRE(killed.has_value());
        CHECK(killed->kind == exit_status::exit_kind::killed);
        CHECK(killed->code == SIGUSR1);

        auto third = spawn_shell("true");
        const auto success = co_await third.wait();
        CHECK(success.value().success());
    };

    run_on(loop, body);

    CHECK(has_no_child());
}

TEST_CASE("bytes pass through a child, more than the pipes hold", "[runtime][child_process]") {
    ring loop;
    const std::string text(1 << 20, 'x');
    auto body = [&]() -> task<void> {
        auto made = child_process::spawn(
            {"cat"}, {.input = child_stream::pipe(), .output = child_stream::pipe()});
        REQUIRE(made.has_value());
        child_process& child = *made;
        auto write = [&]() -> task<int> {
            const auto written = co_await child.input().write(text);
            child.input().close();
            co_return written ? 0 : 1;
        };
        std::string received;
        auto read = [&]() -> task<int> {
            const auto all = co_await child.output().read_all(received, text_bytes_max);
            co_return all ? 0 : 1;
        };

        const auto [written, taken] = co_await kevring::when_all(write(), read());

        CHECK(written == 0);
        CHECK(taken == 0);
        CHECK(received == text);
        const auto ended = co_await child.wait();
        CHECK(ended.value().success());
    };
    run_on(loop, body);
}

TEST_CASE("an output that is longer than allowed is cut there", "[runtime][child_process]") {
    ring loop;
    auto body = [&]() -> task<void> {
        auto child = spawn_shell("printf 12345", {.output = child_stream::pipe()});
        std::string text = "0";
        const auto read = co_await child.output().read_all(text, 4);
        CHECK(read.error() == std::errc::message_size);
        CHECK(text == "01234");

        auto other = spawn_shell("printf 12345", {.output = child_stream::pipe()});
        text.clear();
        const auto exact = co_await other.output().read_all(text, 5);
        CHECK(exact.has_value());
        CHECK(text == "12345");
        const std::span<std::byte> empty;
        const auto nothing = co_await other.output().read(empty);
        CHECK(nothing.error() == std::errc::invalid_argument);
        other.output().close();
        std::array<std::byte, 1> byte{};
        const auto closed = co_await other.output().read(byte);
        CHECK(closed.error() == std::errc::bad_file_descriptor);
    };
    run_on(loop, body);
}

TEST_CASE("environment, directory and streams are those of the options",
          "[runtime][child_process]") {
    ring loop;
    ::setenv("KEVRING_TEST_INHERITED", "yes", 1);
    auto body = [&]() -> task<void> {
        const std::string print = "printf %s. \"$KEVRING_TEST_INHERITED\" \"$A\"";
        const std::string inherited = co_await output_of(print);
        CHECK(inherited == "yes..");
        child_options options;
        options.environment = {"A=b", "PATH=/usr/bin:/bin"};
        const std::string replaced = co_await output_of(print, options);
        CHECK(replaced == ".b.");
        const child_options in_proc{.directory = "/proc"};
        const std::string elsewhere = co_await output_of("pwd", in_proc);
        CHECK(elsewhere == "/proc\n");
        const child_options joined{.error = child_stream::output()};
        const std::string both = co_await output_of("echo 1; echo 2 >&2; cat", joined);
        CHECK(both == "1\n2\n");

        auto separate = spawn_shell(
            "echo 1; echo 2 >&2", {.output = child_stream::null(), .error = child_stream::pipe()});
        CHECK_FALSE(separate.output());
        CHECK_FALSE(separate.input());
        std::string text;
        const auto read = co_await separate.error().read_all(text, 100);
        CHECK(read.has_value());
        CHECK(text == "2\n");
    };
    run_on(loop, body);
    ::unsetenv("KEVRING_TEST_INHERITED");
}

TEST_CASE("a child has the descriptors that it was given, and no other",
          "[runtime][child_process]") {
    ring loop;
    const int leaked = ::fcntl(STDERR_FILENO, F_DUPFD, 60);  // not close-on-exec
    const int low = ::open("/dev/null", O_RDONLY);
    REQUIRE(leaked >= 60);
    auto body = [&]() -> task<void> {
        std::array<int, 2> ends{};
        REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
        kevring::pipe_reader reading(loop, kevring::fd(ends[0]));
        kevring::fd writing(ends[1]);
        child_options options;
        // The first target has the number of the second source.
        options.descriptors = {{writing, 7}, {kevring::fd_ref(low), 9}};
        const std::string open_numbers =
            co_await output_of("echo text >&7; echo /proc/$$/fd/*", options);
        writing.reset();
        std::string text;
        const auto read = co_await reading.read_all(text, 100);
        CHECK(read.has_value());
        CHECK(text == "text\n");
        const auto has = [&](int number) {
            return (' ' + open_numbers).find("/fd/" + std::to_string(number) + ' ') !=
                       std::string::npos ||
                   open_numbers.find("/fd/" + std::to_string(number) + '\n') != std::string::npos;
        };
        CHECK(has(7));
        CHECK(has(9));
        CHECK_FALSE(has(leaked));
        CHECK_FALSE(has(8));
    };
    run_on(loop, body);
    ::close(leaked);
    ::close(low);
}

TEST_CASE("a file that cannot be executed is reported by spawn", "[runtime][child_process]") {
    ring loop;
    auto body = [&]() -> task<void> {
        const std::size_t before = descriptor_count();
        const child_options pipes{.input = child_stream::pipe(), .output = child_stream::pipe()};
        CHECK(child_process::spawn({"/nowhere/program"}, pipes).error() ==
              std::errc::no_such_file_or_directory);
        CHECK(child_process::spawn({"kevring-no-such-program"}, pipes).error() ==
              std::errc::no_such_file_or_directory);
        CHECK(child_process::spawn({"/proc/version"}, pipes).error() ==
              std::errc::permission_denied);
        CHECK(child_process::spawn({"true"}, {.directory = "/nowhere"}).error() ==
              std::errc::no_such_file_or_directory);
        CHECK(descriptor_count() == before);
        CHECK(has_no_child());
        co_return;
    };
    run_on(loop, body);
}

TEST_CASE("options that make no sense are invalid arguments", "[runtime][child_process]") {
    ring loop;
    auto body = [&]() -> task<void> {
        const kevring::fd_ref file(STDERR_FILENO);
        const auto error_of = [](const std::vector<std::string>& arguments,
                                 const child_options& options = {}) {
            return child_process::spawn(arguments, options).error();
        };
        CHECK(error_of({}) == std::errc::invalid_argument);
        CHECK(error_of({std::string("a\0b", 3)}) == std::errc::invalid_argument);
        CHECK(error_of({"true"}, {.environment = {{std::string("A=\0", 3)}}}) ==
              std::errc::invalid_argument);
        CHECK(error_of({"true"}, {.output = child_stream::output()}) ==
              std::errc::invalid_argument);
        for (const int number : {-1, 0, 2, 256})
            CHECK(error_of({"true"}, {.descriptors = {{file, number}}}) ==
                  std::errc::invalid_argument);
        CHECK(error_of({"true"}, {.descriptors = {{file, 3}, {file, 3}}}) ==
              std::errc::invalid_argument);
        CHECK(error_of({"true"}, {.descriptors = {{kevring::fd_ref(), 3}}}) ==
              std::errc::bad_file_descriptor);
        co_return;
    };
    run_on(loop, body);
}

TEST_CASE("a child has its group, a session, or the group of this process",
          "[runtime][child_process]") {
    ring loop;
    auto body = [&]() -> task<void> {
        // proc(5): the fields are number, name, state, parent, group, session.
        const std::string print =
            "read -r a b c d group session rest </proc/$$/stat; "
            "echo $((group == $$)) $((session == $$))";
        const std::string own = co_await output_of(print);
        CHECK(own == "1 0\n");
        const child_options in_session{.group = child_group::session};
        const std::string session = co_await output_of(print, in_session);
        CHECK(session == "1 1\n");
        const child_options in_shared{.group = child_group::shared};
        const std::string shared = co_await output_of(print, in_shared);
        CHECK(shared == "0 0\n");
    };
    run_on(loop, body);
}

TEST_CASE("signals that this process blocks or ignores have their defaults in a child",
          "[runtime][child_process]") {
    ring loop;
    struct sigaction before{};
    struct sigaction ignored{};
    ignored.sa_handler = SIG_IGN;
    ::sigaction(SIGUSR1, &ignored, &before);
    sigset_t blocked;
    ::sigemptyset(&blocked);
    ::sigaddset(&blocked, SIGUSR2);
    ::pthread_sigmask(SIG_BLOCK, &blocked, nullptr);
    auto body = [&]() -> task<void> {
        for (const int number : {SIGUSR1, SIGUSR2}) {
            auto child = spawn_shell("kill -" + std::to_string(number) + " $$; exit 1");
            const auto ended = co_await child.wait();
            CHECK(ended.value().kind == exit_status::exit_kind::killed);
            CHECK(ended.value().code == number);
        }
    };
    run_on(loop, body);
    ::pthread_sigmask(SIG_UNBLOCK, &blocked, nullptr);
    ::sigaction(SIGUSR1, &before, nullptr);
}

TEST_CASE("a write to a child that reads nothing is an error and no signal",
          "[runtime][child_process]") {
    ring loop;
    auto body = [&]() -> task<void> {
        auto child = spawn_shell("exec <&-; echo closed; sleep 1000",
                                 {.input = child_stream::pipe(), .output = child_stream::pipe()});
        const std::string line = co_await read_line(child);
        CHECK(line == "closed");
        const auto written = co_await child.input().write("text");
        CHECK(written.error() == std::errc::broken_pipe);
        child.input().close();
        const auto closed = co_await child.input().write("text");
        CHECK(closed.error() == std::errc::bad_file_descriptor);
        sigset_t pending;
        ::sigpending(&pending);
        CHECK(::sigismember(&pending, SIGPIPE) == 0);
    };
    run_on(loop, body);
}
