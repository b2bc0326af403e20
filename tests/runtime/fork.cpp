// A process that is forked inside of a loop: its first use of the ring fails or does nothing, and
// the parent continues undisturbed.
#include "tests/support/catch.hpp"
#include "tests/support/child_process.hpp"
#include "tests/support/run_on.hpp"
#include "tests/support/scripted_kernel.hpp"
#include "tests/support/socket_pair.hpp"

#include <kevring/runtime/buffer_pool.hpp>
#include <kevring/runtime/detail/uring.hpp>
#include <kevring/runtime/fixed_buffer_pool.hpp>
#include <kevring/runtime/operations/nop.hpp>
#include <kevring/runtime/operations/receive.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/run.hpp>
#include <kevring/runtime/sleep.hpp>
#include <kevring/runtime/task_scope.hpp>

#include <array>
#include <cstddef>
#include <memory>
#include <string>
#include <system_error>

#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

using kevring::ring;
using kevring::task;
using kevring::task_scope;
using namespace std::chrono_literals;

namespace {

constexpr int exit_good = 42;  // the child found what it expects
constexpr int exit_bad = 43;
constexpr int exit_resumed = 44;  // another coroutine ran in the child

using fork_function = pid_t (*)();

// A clone() that the C library does not see runs no handlers of pthread_atfork().
pid_t raw_clone() {
    return static_cast<pid_t>(::syscall(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, nullptr));
}

struct started_child {
    pid_t pid = -1;
    int read_end = -1;
};

started_child start_child(fork_function make_child) {
    std::array<int, 2> ends{};
    if (::pipe(ends.data()) != 0) throw std::system_error(errno, std::system_category(), "pipe");
    started_child child{make_child(), ends[0]};
    if (child.pid == 0) {
        ::dup2(ends[1], STDERR_FILENO);
        ::signal(SIGABRT, SIG_DFL);
    }
    ::close(ends[1]);
    return child;
}

// Counts what reaches the kernel's rings.
class counting_kernel final : public kevring::kernel {
public:
    int ring_enter(io_uring& ring, unsigned submit_count, unsigned wait_count, unsigned flags,
                   const __kernel_timespec* timeout) noexcept override {
        ++call_count;
        return kernel::ring_enter(ring, submit_count, wait_count, flags, timeout);
    }
    int ring_register(io_uring& ring, unsigned opcode, void* argument,
                      unsigned count) noexcept override {
        ++call_count;
        return kernel::ring_register(ring, opcode, argument, count);
    }
    unsigned call_count = 0;
};

bool is_refused(const std::error_code& error) {
    return error == std::errc::operation_not_permitted;
}

struct fixture {
    counting_kernel kernel;
    std::unique_ptr<ring> loop = std::make_unique<ring>(kevring::ring_options{}, kernel);
    socket_pair receive_pair;
    socket_pair stream_pair;
    std::unique_ptr<kevring::receive_stream> stream;
};

task<int> await_operation(fixture& setup) {
    kevring::nop_operation nop(*setup.loop);
    const auto done = co_await nop;
    co_return !done && is_refused(done.error()) ? exit_good : exit_bad;
}

task<int> await_sleep(fixture&) {
    const auto slept = co_await kevring::sleep_for(1ms);
    co_return !slept && is_refused(slept.error()) ? exit_good : exit_bad;
}

task<int> await_with_timeout(fixture& setup) {
    std::array<std::byte, 1> byte{};
    const auto got = co_await kevring::with_timeout(
        kevring::receive_operation(*setup.loop, setup.receive_pair.local(), byte), 1ms);
    co_return !got && is_refused(got.error()) ? exit_good : exit_bad;
}

task<int> await_stream(fixture& setup) {
    kevring::receive_stream other(*setup.loop, setup.receive_pair.local());
    const auto got = co_await other.next();
    co_return !got && is_refused(got.error()) ? exit_good : exit_bad;
}

task<int> post_work(fixture& setup) {
    struct fatal_work : kevring::work {
        fatal_work() : work([](work&) noexcept { ::_exit(exit_bad); }) {}
    };
    static fatal_work item;
    setup.loop->post(item);
    auto never = []() -> task<void> {
        ::_exit(exit_bad);
        co_return;
    };
    kevring::spawn(*setup.loop, never());
    co_return exit_good;
}

task<int> drive_ring(fixture& setup) {
    int refused_count = 0;
    try {
        setup.loop->run_once(false);
    } catch (const std::system_error& failure) {
        refused_count += is_refused(failure.code()) ? 1 : 0;
    }
    try {
        kevring::run(*setup.loop, [](fixture& state) -> task<void> {
            static_cast<void>(co_await await_operation(state));
        }(setup));
    } catch (const std::system_error& failure) {
        refused_count += is_refused(failure.code()) ? 1 : 0;
    }
    co_return refused_count == 2 ? exit_good : exit_bad;
}

task<int> make_pools(fixture& setup) {
    int refused_count = 0;
    try {
        const kevring::buffer_pool pool(*setup.loop);
    } catch (const std::system_error& failure) {
        refused_count += is_refused(failure.code()) ? 1 : 0;
    }
    kevring::fixed_buffer_pool fixed(*setup.loop);
    refused_count += fixed.try_acquire() ? 0 : 1;
    co_return refused_count == 2 ? exit_good : exit_bad;
}

task<int> run_a_new_ring(fixture& setup) {
    ring fresh;
    bool done = false;
    auto body = [&]() -> task<void> {
        kevring::nop_operation nop(fresh);
        const auto ended = co_await nop;
        const auto slept = co_await kevring::sleep_for(1us);
        done = ended.has_value() && slept.has_value();
    };
    kevring::run(fresh, body());
    co_return done&& ring::current() == setup.loop.get() ? exit_good : exit_bad;
}

task<int> destroy_everything(fixture& setup) {
    const unsigned before = setup.kernel.call_count;
    setup.stream.reset();
    setup.loop.reset();
    co_return setup.kernel.call_count == before ? exit_good : exit_bad;
}

// Runs `use` in a child of a coroutine, while the parent has a receive, a stream and a timer
// pending and ready coroutines beside it. The child never returns from here.
void fork_in_a_loop(fork_function make_child, task<int> (*use)(fixture&)) {
    fixture setup;
    const pid_t parent = ::getpid();
    ring& loop = *setup.loop;
    setup.stream = std::make_unique<kevring::receive_stream>(loop, setup.stream_pair.local());
    child_outcome outcome;
    unsigned ended_count = 0;
    auto end_in_parent = [&] {
        if (::getpid() != parent) ::_exit(exit_resumed);
        ++ended_count;
    };
    auto receive = [&]() -> task<void> {
        std::array<std::byte, 4> bytes{};
        const auto got =
            co_await kevring::receive_operation(loop, setup.receive_pair.local(), bytes);
        end_in_parent();
        CHECK(got);
    };
    auto receive_from_stream = [&]() -> task<void> {
        const auto got = co_await setup.stream->next();
        end_in_parent();
        CHECK(got);
    };
    auto sleep = [&]() -> task<void> {
        const auto slept = co_await kevring::sleep_for(1ms);
        end_in_parent();
        CHECK(slept);
    };
    auto pause = [&]() -> task<void> {
        for (int i = 0; i < 3; ++i) {
            co_await kevring::yield();
            if (::getpid() != parent) ::_exit(exit_resumed);
        }
        end_in_parent();
    };
    auto fork_and_use = [&]() -> task<void> {
        const started_child child = start_child(make_child);
        if (child.pid == 0) {
            const int code = co_await use(setup);
            ::_exit(code);
        }
        outcome = await_child(child.pid, child.read_end);
        setup.receive_pair.send_from_peer("one");
        setup.stream_pair.send_from_peer("two");
    };
    auto body = [&]() -> task<void> {
        task_scope all(loop);
        all.spawn(receive());
        all.spawn(receive_from_stream());
        all.spawn(sleep());
        all.spawn(pause());
        co_await kevring::yield();  // the requests are in the kernel
        all.spawn(fork_and_use());
        all.spawn(pause());
        co_await all.join();
    };
    try {
        run_on(loop, body);
    } catch (const std::system_error& failure) {
        if (::getpid() != parent) ::_exit(is_refused(failure.code()) ? exit_good : exit_bad);
        throw;
    } catch (...) {
        if (::getpid() != parent) ::_exit(exit_bad);
        throw;
    }
    if (::getpid() != parent) ::_exit(exit_resumed);

    INFO(outcome.error_text << "wait status " << outcome.wait_status);
    CHECK(outcome.exited(exit_good));
    CHECK(ended_count == 5);
}

// A coroutine that waits in the child for something else is left where it is, and run() throws.
task<int> yield_in_the_child(fixture&) {
    co_await kevring::yield();
    co_return exit_resumed;
}

struct use_row {
    const char* name;
    task<int> (*use)(fixture&);
};
constexpr std::array uses{
    use_row{"operation", await_operation},  use_row{"sleep", await_sleep},
    use_row{"timeout", await_with_timeout}, use_row{"stream", await_stream},
    use_row{"post and spawn", post_work},   use_row{"drive and run", drive_ring},
    use_row{"pools", make_pools},           use_row{"a new ring", run_a_new_ring},
    use_row{"yield", yield_in_the_child},   use_row{"destructors", destroy_everything},
};

}  // namespace

TEST_CASE("a child forked in a coroutine cannot use the ring, and its parent continues",
          "[runtime][fork]") {
    for (const use_row& row : uses) {
        INFO(row.name);
        fork_in_a_loop(::fork, row.use);
    }
}

TEST_CASE("a child of a clone that the C library does not see is no different", "[runtime][fork]") {
    for (const use_row& row : uses) {
        INFO(row.name);
        fork_in_a_loop(raw_clone, row.use);
    }
}

TEST_CASE("a fork from a timer or from posted work leaves the other ones to the parent",
          "[runtime][fork]") {
    const pid_t parent = ::getpid();
    const bool posted = GENERATE(false, true);
    scripted_kernel script;
    script.clock_ns = 1'000'000'000;
    ring loop({}, script);
    unsigned resumed_count = 0;
    child_outcome outcome;
    auto step = [&](bool forks) -> task<void> {
        if (posted)
            co_await kevring::yield();
        else
            static_cast<void>(co_await kevring::sleep_for(1ms));
        if (forks) {
            const started_child child = start_child(::fork);
            if (child.pid == 0) {
                co_await kevring::yield();  // back to the loop, which must resume none of the rest
                ::_exit(exit_resumed);
            }
            outcome = await_child(child.pid, child.read_end);
        }
        if (::getpid() != parent) ::_exit(exit_resumed);
        ++resumed_count;
    };
    auto body = [&]() -> task<void> {
        task_scope all(loop);
        for (int i = 0; i < 9; ++i) all.spawn(step(i == 4));
        co_await all.join();
    };
    try {
        kevring::run(loop, body());
    } catch (const std::system_error&) {
        if (::getpid() != parent) ::_exit(exit_good);
        throw;
    }
    if (::getpid() != parent) ::_exit(exit_resumed);

    INFO(outcome.error_text);
    CHECK(outcome.exited(exit_good));
    CHECK(resumed_count == 9);
}

TEST_CASE("a child that destroys a ring of another thread wakes no thread and writes nothing",
          "[runtime][fork][threads]") {
    scripted_kernel script;  // wakes by an eventfd, which a write would disturb
    auto loop = std::make_unique<ring>(kevring::ring_options{}, script);
    loop->claim();
    loop->run_once(false);
    pollfd entry{loop->native_handle(), POLLIN, 0};
    for (int i = 0; i < 10 && ::poll(&entry, 1, 0) > 0; ++i) loop->run_once(false);
    REQUIRE(::poll(&entry, 1, 0) == 0);

    const child_outcome child = run_in_child([&] {
        struct nothing : kevring::work {
            nothing() : work([](work&) noexcept {}) {}
        };
        static nothing item;
        loop->post(item);
        loop->root_scope().request_stop();
        loop.reset();
    });

    CHECK(child.exited(0));
    CHECK(::poll(&entry, 1, 0) == 0);
    unsigned done_count = 0;
    auto body = [&]() -> task<void> {
        kevring::nop_operation nop(*loop);
        const auto done = co_await nop;
        if (done) ++done_count;
    };
    run_on(*loop, body);
    CHECK(done_count == 1);
}

TEST_CASE("a child that calls exit() runs destructors that leave the parent's ring alone",
          "[runtime][fork]") {
    struct kept {
        counting_kernel kernel;
        ring loop{kevring::ring_options{}, kernel};
        socket_pair pair;
        kevring::buffer_pool pool{loop};
        kevring::receive_stream stream{loop, pair.local()};
    };
    static std::unique_ptr<kept> objects;
    objects = std::make_unique<kept>();
    child_outcome outcome;
    std::size_t received_bytes = 0;
    auto receive = [&]() -> task<void> {
        const auto got = co_await objects->stream.next();
        received_bytes = got ? got->size() : 0;
    };
    auto body = [&]() -> task<void> {
        task_scope all(objects->loop);
        all.spawn(receive());
        co_await kevring::yield();
        const started_child child = start_child(::fork);
        if (child.pid == 0) {
            std::atexit(+[] {
                kevring::kernel& kernel = objects->kernel;
                const unsigned before = static_cast<counting_kernel&>(kernel).call_count;
                auto* const last = &static_cast<counting_kernel&>(kernel).call_count;
                kept* const all_objects = objects.release();
                all_objects->stream.~receive_stream();
                all_objects->pool.~buffer_pool();
                all_objects->loop.~ring();
                ::_exit(*last == before ? exit_good : exit_bad);
            });
            std::exit(exit_resumed);
        }
        outcome = await_child(child.pid, child.read_end);
        objects->pair.send_from_peer("abc");
        co_await all.join();
    };

    run_on(objects->loop, body);
    objects.reset();

    INFO(outcome.error_text);
    CHECK(outcome.exited(exit_good));
    CHECK(received_bytes == 3);
}
