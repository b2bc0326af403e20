// A ring driven by a loop of the program's own: its descriptor, its timers, and work from other
// threads.
#include "tests/support/catch.hpp"
#include "tests/support/scripted_kernel.hpp"
#include "tests/support/socket_pair.hpp"

#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/operations/poll.hpp>
#include <kevring/runtime/operations/receive.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/run.hpp>
#include <kevring/runtime/sleep.hpp>
#include <kevring/runtime/task_scope.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

using kevring::ring;
using kevring::task;
using namespace std::chrono_literals;

namespace {

constexpr int deadline_ms = 60'000;

bool is_readable(ring& loop, int timeout_ms) {
    pollfd entry{loop.native_handle(), POLLIN, 0};
    return ::poll(&entry, 1, timeout_ms) == 1;
}

// poll(2) tests its descriptors once more when its time is over: a thread that was not woken finds
// them readable as well, but late.
bool is_woken(ring& loop) {
    const auto begin = std::chrono::steady_clock::now();
    return is_readable(loop, deadline_ms) &&
           std::chrono::steady_clock::now() - begin < std::chrono::milliseconds(deadline_ms) / 2;
}

// Returns when `thread`, a number of this process, sleeps in a system call; after a minute anyhow.
void wait_for_sleep(pid_t thread) {
    const std::string path = "/proc/self/task/" + std::to_string(thread) + "/stat";
    const auto begin = std::chrono::steady_clock::now();
    while (std::chrono::steady_clock::now() - begin < std::chrono::milliseconds(deadline_ms)) {
        std::string line;
        std::getline(std::ifstream(path), line);
        const std::size_t name_end = line.rfind(')');
        if (name_end != std::string::npos && line.compare(name_end, 3, ") S") == 0) return;
        std::this_thread::yield();
    }
}

// The loop of the program: false if nothing happens for a minute.
template <class Done>
bool drive(ring& loop, const Done& done) {
    while (!done()) {
        const int timeout_ms = loop.poll_timeout_ms();
        if (timeout_ms != 0 && !is_readable(loop, timeout_ms < 0 ? deadline_ms : timeout_ms) &&
            timeout_ms < 0)
            return false;
        loop.run_once(false);
    }
    return true;
}

void drive_until_idle(ring& loop) {
    loop.run_once(false);
    while (loop.has_work()) loop.run_once(false);
}

// The signal of a wake-up may come after the iteration that took it (ring.hpp): that makes the
// descriptor readable once, and no more.
bool becomes_idle(ring& loop) {
    for (int late_signals = 0; late_signals < 3; ++late_signals) {
        drive_until_idle(loop);
        if (!is_readable(loop, 0)) return true;
    }
    return false;
}

struct counting_work : kevring::work {
    counting_work()
        : work([](work& item) noexcept { ++static_cast<counting_work&>(item).count; }) {}
    std::atomic<int> count{0};
};

}  // namespace

TEST_CASE("a post from another thread makes the descriptor of an idle ring readable",
          "[runtime][foreign_loop][threads]") {
    const bool by_message = GENERATE(true, false);
    const auto main_thread = static_cast<pid_t>(::syscall(SYS_gettid));
    scripted_kernel script;  // a ring on another kernel than the real one wakes by an eventfd
    ring loop({}, by_message ? kevring::kernel::real() : script);
    loop.claim();
    drive_until_idle(loop);
    REQUIRE_FALSE(is_readable(loop, 0));

    for (int round = 0; round < 3; ++round) {
        counting_work item;
        std::atomic<bool> polled{false};
        std::thread poster([&] {
            wait_for_sleep(main_thread);
            polled = true;
            loop.post(item);
        });

        bool woken = is_woken(loop);
        while (woken && !polled) {  // a late signal of the round before
            drive_until_idle(loop);
            woken = is_woken(loop);
        }
        CHECK(woken);
        CHECK(polled);
        poster.join();
        CHECK(drive(loop, [&] { return item.count == 1; }));
        CHECK(becomes_idle(loop));
        CHECK(loop.poll_timeout_ms() == -1);
    }
}

TEST_CASE("a post to a claimed ring before its first iteration is seen",
          "[runtime][foreign_loop]") {
    ring loop;
    loop.claim();
    counting_work item;

    loop.post(item);

    CHECK(loop.has_work());
    CHECK(is_readable(loop, deadline_ms));
    loop.run_once(false);
    CHECK(item.count == 1);
}

TEST_CASE("a post from the ring's own thread makes the descriptor readable as well",
          "[runtime][foreign_loop]") {
    ring loop;
    drive_until_idle(loop);
    counting_work item;

    loop.post(item);

    CHECK(is_readable(loop, deadline_ms));
    loop.run_once(false);
    CHECK(item.count == 1);
}

TEST_CASE("a completion makes the descriptor readable", "[runtime][foreign_loop]") {
    ring loop;
    const socket_pair pair;
    std::size_t received_bytes = 0;
    auto receive = [&]() -> task<void> {
        std::array<std::byte, 8> bytes{};
        const auto got = co_await kevring::receive_operation(loop, pair.local(), bytes);
        received_bytes = got.value_or(0);
    };
    kevring::spawn(loop, receive());
    drive_until_idle(loop);
    REQUIRE_FALSE(is_readable(loop, 0));
    REQUIRE(received_bytes == 0);

    const auto main_thread = static_cast<pid_t>(::syscall(SYS_gettid));
    std::jthread peer([&] {
        wait_for_sleep(main_thread);
        pair.send_from_peer("abc");
    });
    CHECK(is_woken(loop));
    CHECK(drive(loop, [&] { return received_bytes == 3; }));
}

// The kernel cannot signal an eventfd while it wakes the waiters of another one.
TEST_CASE("a request that an eventfd completes makes the descriptor readable, each time",
          "[runtime][foreign_loop][threads]") {
    const auto main_thread = static_cast<pid_t>(::syscall(SYS_gettid));
    const kevring::fd source(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    ring loop;
    int event_count = 0;
    auto collect = [&]() -> task<void> {
        while (event_count < 4) {
            const auto polled = co_await kevring::poll_operation(loop, source, POLLIN);
            std::uint64_t value = 0;
            if (!polled || ::read(source.number(), &value, sizeof value) != sizeof value) co_return;
            ++event_count;
        }
    };
    kevring::spawn(loop, collect());
    drive_until_idle(loop);

    for (int round = 1; round <= 4; ++round) {
        std::jthread writer([&] {
            wait_for_sleep(main_thread);
            const std::uint64_t one = 1;
            static_cast<void>(!::write(source.number(), &one, sizeof one));
        });
        CHECK(is_woken(loop));
        CHECK(drive(loop, [&] { return event_count == round; }));
        drive_until_idle(loop);
    }
}

TEST_CASE("the foreign loop knows when the next timer is due", "[runtime][foreign_loop]") {
    scripted_kernel script;
    script.clock_ns = 5'000'000'000;
    ring loop({}, script);
    bool slept = false;
    auto sleep = [&]() -> task<void> {
        static_cast<void>(co_await kevring::sleep_for(10ms + 1ns));
        slept = true;
    };
    CHECK(loop.next_deadline() == kevring::steady_time::max());
    kevring::spawn(loop, sleep());
    drive_until_idle(loop);

    CHECK(loop.next_deadline() == kevring::steady_time(5s + 10ms + 1ns));
    CHECK(loop.poll_timeout_ms() == 11);
    *script.clock_ns += 10'000'000;
    CHECK(loop.poll_timeout_ms() == 1);
    CHECK_FALSE(loop.has_work());
    *script.clock_ns += 1;
    CHECK(loop.poll_timeout_ms() == 0);
    CHECK(loop.has_work());
    loop.run_once(false);
    CHECK(slept);
}

TEST_CASE("a request made after the last iteration is work", "[runtime][foreign_loop]") {
    ring loop;
    drive_until_idle(loop);
    counting_work item;

    loop.schedule(item);

    CHECK(loop.has_work());
    CHECK(loop.poll_timeout_ms() == 0);
    loop.run_once(false);
    CHECK(item.count == 1);
    CHECK_FALSE(loop.has_work());
}

TEST_CASE("tasks spawned by threads all run on the ring's thread", "[runtime][spawn][threads]") {
    constexpr int thread_count = 4;
    constexpr int task_count = 200;
    ring loop;
    loop.claim();
    const std::thread::id own = std::this_thread::get_id();
    int ended_count = 0;
    int elsewhere_count = 0;
    auto body = [&]() -> task<void> {
        co_await kevring::yield();
        if (std::this_thread::get_id() != own) ++elsewhere_count;
        ++ended_count;
    };
    std::vector<std::jthread> threads;
    for (int i = 0; i < thread_count; ++i)
        threads.emplace_back([&] {
            for (int j = 0; j < task_count; ++j) kevring::spawn(loop, body());
        });

    CHECK(drive(loop, [&] { return ended_count == thread_count * task_count; }));
    CHECK(elsewhere_count == 0);
}

TEST_CASE("work that is posted after a run() makes the descriptor readable",
          "[runtime][foreign_loop]") {
    ring loop;
    bool ended = false;
    auto once = []() -> task<void> { co_await kevring::yield(); };
    auto body = [&]() -> task<void> {
        co_await kevring::yield();
        ended = true;
    };
    kevring::run(loop, once());
    REQUIRE_FALSE(is_readable(loop, 0));
    std::jthread poster([&] { kevring::spawn(loop, body()); });

    CHECK(is_woken(loop));

    CHECK(drive(loop, [&] { return ended; }));
}

TEST_CASE("a task that was spawned to a ring that is never driven is stopped at its first await",
          "[runtime][spawn]") {
    std::error_code seen;
    auto body = [&]() -> task<void> {  // first: the destructor of the ring starts the task
        const auto slept = co_await kevring::sleep_for(1h);
        if (!slept) seen = slept.error();
    };
    {
        ring loop;
        kevring::spawn(loop, body());
    }

    CHECK(seen == std::errc::operation_canceled);
}
