// Children are started with what the options say, report how they ended, and leave nothing behind.
#include "tests/support/child_process.hpp"
#include "tests/support/allocations.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/run_on.hpp"

#include <kevring/runtime/child_process.hpp>
#include <kevring/runtime/operations/wait_process.hpp>
#include <kevring/runtime/process_kernel.hpp>
#include <kevring/runtime/when.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

using kevring::child_group;
using kevring::child_options;
using kevring::child_process;
using kevring::child_stream;
using kevring::exit_status;
using kevring::ring;
using kevring::task;
using namespace std::chrono_literals;

namespace {

constexpr std::size_t text_bytes_max = 4 << 20;

/// Fails the calls that make a child.
class faulty_kernel final : public kevring::process_kernel {
public:
    int pipe_error = 0;
    int spawn_error = 0;
    int open_error = 0;
    int wait_error = 0;
    int write_error = 0;
    int signal_opened_error = 0;
    std::vector<pid_t> signalled;  // by number

    int signal_process(pid_t process, int number) noexcept override {
        signalled.push_back(process);
        return process_kernel::signal_process(process, number);
    }
    int signal_opened(int process, int number, kevring::signal_target target) noexcept override {
        return signal_opened_error != 0 ? -signal_opened_error
                                        : process_kernel::signal_opened(process, number, target);
    }
    int open_pipe(int (&ends)[2]) noexcept override {
        return pipe_error != 0 ? -pipe_error : process_kernel::open_pipe(ends);
    }
    pid_t spawn_process(const kevring::detail::spawn_request& request) noexcept override {
        return spawn_error != 0 ? -spawn_error : process_kernel::spawn_process(request);
    }
    int open_process(pid_t process) noexcept override {
        return open_error != 0 ? -open_error : process_kernel::open_process(process);
    }
    int wait_process(int process, siginfo_t& info, int options) noexcept override {
        if (wait_error != 0 && (options & WNOWAIT) != 0) return -wait_error;
        return process_kernel::wait_process(process, info, options);
    }
    ssize_t write_without_signal(int file, const void* bytes,
                                 std::size_t byte_count) noexcept override {
        return write_error != 0 ? -write_error
                                : process_kernel::write_without_signal(file, bytes, byte_count);
    }
};

std::size_t descriptor_count() {
    std::size_t count = 0;
    for ([[maybe_unused]] const auto& each : std::filesystem::directory_iterator("/proc/self/fd"))
        ++count;
    return count;
}

// True if this process has no child, not even a zombie.
bool has_no_child() { return ::waitpid(-1, nullptr, WNOHANG) == -1 && errno == ECHILD; }

child_process spawn_shell(const std::string& script, const child_options& options = {}) {
    auto child = child_process::spawn({"sh", "-c", script}, options);
    REQUIRE(child.has_value());
    return std::move(*child);
}

task<std::string> read_line(child_process& child) {
    std::string line;
    std::array<std::byte, 1> byte{};
    while (true) {
        const auto got = co_await child.output().read(byte);
        if (!got || *got == 0 || byte[0] == std::byte{'\n'}) co_return line;
        line += static_cast<char>(byte[0]);
    }
}

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

task<void> expect_end_of(pid_t process) {
    ring& loop = *ring::current();
    const auto handle = kevring::open_process(kevring::process_kernel::real(), process);
    if (!handle) {
        CHECK(handle.error() == std::errc::no_such_process);
        co_return;
    }
    kevring::wait_process_operation end(loop, *handle);
    const auto ended = co_await end;
    CHECK(ended.has_value());
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

TEST_CASE("the end of the scope ends the whole group, and leaves no zombie",
          "[runtime][child_process]") {
    pid_t grandchild = 0;
    {
        ring loop;
        auto body = [&]() -> task<void> {
            {
                auto child =
                    spawn_shell("sleep 1000 & echo $!; wait", {.output = child_stream::pipe()});
                const std::string line = co_await read_line(child);
                grandchild = std::stoi(line);
            }
            co_await expect_end_of(grandchild);
        };
        run_on(loop, body);
    }
    CHECK(has_no_child());
}

TEST_CASE("a ring that is destroyed ends the children of its tasks", "[runtime][child_process]") {
    {
        ring loop;
        bool waits = false;
        auto body = [&]() -> task<void> {
            auto child = spawn_shell("sleep 1000");
            waits = true;
            const auto ended = co_await child.wait();
            CHECK(ended.error() == std::errc::operation_canceled);
        };
        kevring::spawn(loop, body());
        loop.run_until(waits);
    }
    CHECK(has_no_child());
}

TEST_CASE("processes that outlive the child end with it", "[runtime][child_process]") {
    ring loop;
    auto body = [&]() -> task<void> {
        auto child =
            spawn_shell("sleep 1000 >/dev/null & echo $!", {.output = child_stream::pipe()});
        const std::string line = co_await read_line(child);
        const auto ended = co_await child.wait();
        CHECK(ended.value().success());
        co_await expect_end_of(std::stoi(line));
    };
    run_on(loop, body);
    CHECK(has_no_child());
}

TEST_CASE("terminate sends SIGTERM, and SIGKILL after the grace period",
          "[runtime][child_process]") {
    ring loop;
    auto body = [&]() -> task<void> {
        auto obeys = spawn_shell("sleep 1000");
        const auto terminated = co_await obeys.terminate(1h);
        CHECK(terminated.value().kind == exit_status::exit_kind::killed);
        CHECK(terminated.value().code == SIGTERM);

        auto handles = spawn_shell("trap 'exit 3' TERM; echo ready; while :; do sleep 0.01; done",
                                   {.output = child_stream::pipe()});
        const std::string line = co_await read_line(handles);
        CHECK(line == "ready");
        const auto handled = co_await handles.terminate(1h);
        CHECK(handled.value().code == 3);

        auto refuses =
            spawn_shell("trap '' TERM; echo ready; sleep 1000", {.output = child_stream::pipe()});
        const std::string second_line = co_await read_line(refuses);
        CHECK(second_line == "ready");
        const auto killed = co_await refuses.terminate(1ms);
        CHECK(killed.value().code == SIGKILL);

        auto stopped = spawn_shell("kill -STOP $$; exit 4");
        const auto continued = co_await stopped.terminate(1h);
        CHECK(continued.has_value());
        const auto again = co_await stopped.terminate(1h);
        CHECK(again.value().code == continued.value().code);
    };
    run_on(loop, body);
    CHECK(has_no_child());
}

TEST_CASE("a deadline ends a child, also after a stop of the scope", "[runtime][child_process]") {
    ring loop;
    auto body = [&]() -> task<void> {
        auto slow = spawn_shell("sleep 1000");
        const auto late = co_await slow.wait_or_terminate(1ms, 1h);
        CHECK(late.value().code == SIGTERM);

        auto quick = spawn_shell("exit 5");
        const auto in_time = co_await quick.wait_or_terminate(1h, 1h);
        CHECK(in_time.value().code == 5);

        auto other = spawn_shell("sleep 1000");
        auto ended = other.wait_or_terminate(1h, 1h);
        const auto stopped = co_await kevring::with_timeout(std::move(ended), 1ms);
        CHECK(stopped.value().code == SIGTERM);
    };
    run_on(loop, body);
}

TEST_CASE("a stop before or during wait leaves the child, and a stop after it changes nothing",
          "[runtime][child_process]") {
    ring loop;
    auto body = [&]() -> task<void> {
        auto child = spawn_shell("read -r line; exit 6", {.input = child_stream::pipe()});
        auto before = child.wait();
        const auto at_once = co_await kevring::with_timeout(std::move(before), 0ns);
        CHECK(at_once.error() == std::errc::timed_out);
        auto during = child.wait();
        const auto late = co_await kevring::with_timeout(std::move(during), 1ms);
        CHECK(late.error() == std::errc::timed_out);

        const auto written = co_await child.input().write("line\n");
        CHECK(written.has_value());
        const auto ended = co_await child.wait();
        CHECK(ended.value().code == 6);
        auto after = child.wait();
        const auto same = co_await kevring::with_timeout(std::move(after), 0ns);
        CHECK(same.value().code == 6);
    };
    run_on(loop, body);
}

TEST_CASE("a call that fails while a child is made leaves neither process nor descriptor",
          "[runtime][child_process]") {
    faulty_kernel faults;
    ring loop;
    loop.claim();
    loop.service<kevring::process_kernel_choice>().chosen = &faults;
    auto body = [&]() -> task<void> {
        const child_options pipes{.input = child_stream::pipe(), .output = child_stream::pipe()};
        const std::size_t before = descriptor_count();
        const auto error_of_spawn = [&](int& error, int value) {
            error = value;
            const auto child = child_process::spawn({"sleep", "1000"}, pipes);
            error = 0;
            return child.has_value() ? std::error_code() : child.error();
        };
        for (const int error : {EMFILE, ENFILE})
            CHECK(error_of_spawn(faults.pipe_error, error).value() == error);
        for (const int error : {EAGAIN, ENOMEM, EACCES, E2BIG, ENOEXEC, ELOOP, ETXTBSY})
            CHECK(error_of_spawn(faults.spawn_error, error).value() == error);
        for (const int error : {EMFILE, ENFILE, ENODEV, ENOMEM})
            CHECK(error_of_spawn(faults.open_error, error).value() == error);
        CHECK(descriptor_count() == before);
        CHECK(has_no_child());
        co_return;
    };
    run_on(loop, body);
}

TEST_CASE("a status that other code has consumed is unknown", "[runtime][child_process]") {
    faulty_kernel faults;
    ring loop;
    loop.claim();
    loop.service<kevring::process_kernel_choice>().chosen = &faults;
    auto body = [&]() -> task<void> {
        auto child = spawn_shell("exit 1");
        faults.wait_error = ECHILD;
        const auto ended = co_await child.wait();
        faults.wait_error = 0;
        CHECK(ended.value().kind == exit_status::exit_kind::unknown);
        CHECK(ended.value().process == child.process());

        auto writes = spawn_shell("cat >/dev/null", {.input = child_stream::pipe()});
        faults.write_error = EIO;
        const auto written = co_await writes.input().write("text");
        CHECK(written.error() == std::errc::io_error);
    };
    run_on(loop, body);
}

TEST_CASE("the forked copy of a child_process leaves the child alone", "[runtime][child_process]") {
    ring loop;
    auto body = [&]() -> task<void> {
        auto child = spawn_shell("read -r line; exit 8", {.input = child_stream::pipe()});
        const child_outcome forked = run_in_child([&] {
            { const child_process copy = std::move(child); }
            if (child_process::spawn({"true"}).error() != std::errc::operation_not_permitted)
                throw std::runtime_error("spawned");
        });
        INFO(forked.error_text);
        CHECK(forked.exited(0));
        const auto written = co_await child.input().write("line\n");
        CHECK(written.has_value());
        const auto ended = co_await child.wait();
        CHECK(ended.value().code == 8);
    };
    run_on(loop, body);
}

// The number of a reaped child may be the group of other processes.
TEST_CASE("a child that other code has reaped is not signalled by its number",
          "[runtime][child_process]") {
    faulty_kernel faults;
    ring loop;
    loop.claim();
    loop.service<kevring::process_kernel_choice>().chosen = &faults;
    auto body = [&]() -> task<void> {
        // 0: of this kernel; EINVAL: as before Linux 6.9.
        for (const int error : {0, EINVAL}) {
            faults.signal_opened_error = error;
            for (const child_group group : {child_group::own, child_group::shared}) {
                auto child = spawn_shell("exit 0", {.group = group});
                REQUIRE(::waitpid(child.process(), nullptr, 0) == child.process());
                const auto sent = child.signal(SIGTERM);
                CHECK((group == child_group::own || error == 0
                           ? sent.error() == std::errc::no_such_process
                           : !sent.has_value()));
            }
        }
        CHECK(faults.signalled.empty());
        co_return;
    };
    run_on(loop, body);
}

TEST_CASE("without signals to the group of a descriptor the whole group ends, too",
          "[runtime][child_process]") {
    faulty_kernel faults;
    faults.signal_opened_error = EINVAL;
    ring loop;
    loop.claim();
    loop.service<kevring::process_kernel_choice>().chosen = &faults;
    auto body = [&]() -> task<void> {
        pid_t grandchild = 0;
        {
            auto child =
                spawn_shell("sleep 1000 & echo $!; wait", {.output = child_stream::pipe()});
            const std::string line = co_await read_line(child);
            grandchild = std::stoi(line);
        }
        co_await expect_end_of(grandchild);
        CHECK(faults.signalled.size() == 1);
    };
    run_on(loop, body);
    CHECK(has_no_child());
}

TEST_CASE("an allocation that fails during spawn leaves neither process nor descriptor",
          "[runtime][child_process]") {
    if (!allocations_are_counted()) return;
    ring loop;
    auto body = [&]() -> task<void> {
        const std::vector<std::string> arguments{"true"};
        const child_options pipes{.input = child_stream::pipe(), .output = child_stream::pipe()};
        bool failed = true;
        for (std::uint64_t count = 0; failed; ++count) {
            const std::size_t before = descriptor_count();
            {
                std::optional<kevring::result<child_process>> child;
                {
                    const failing_allocation fault(count);
                    try {
                        child.emplace(child_process::spawn(arguments, pipes));
                    } catch (const std::bad_alloc&) {}
                    failed = fault.has_failed();
                }
                // Reaped: its descriptor stays open until then.
                if (child && child->has_value()) {
                    const auto ended = co_await (*child)->wait();
                    CHECK(ended.has_value());
                }
                CHECK((failed || (child && child->has_value())));
            }
            CHECK(descriptor_count() == before);
        }
    };
    run_on(loop, body);
}
