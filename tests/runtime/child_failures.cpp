// Calls that fail, and other code that reaps or forks, leave neither process nor descriptor.
#include "tests/support/allocations.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/child_process.hpp"
#include "tests/support/descriptor_count.hpp"
#include "tests/support/run_on.hpp"
#include "tests/support/shell_child.hpp"

#include <kevring/runtime/child_process.hpp>
#include <kevring/runtime/process_kernel.hpp>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <signal.h>
#include <sys/wait.h>

using kevring::child_group;
using kevring::child_options;
using kevring::child_process;
using kevring::child_stream;
using kevring::exit_status;
using kevring::ring;
using kevring::task;

namespace {

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

}  // namespace

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
    {
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
    }
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
