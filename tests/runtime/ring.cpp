// The loop itself: small queues, other threads, fairness, its end, and what it says when it cannot
// begin.
#include "tests/support/catch.hpp"
#include "tests/support/run_on.hpp"
#include "tests/support/scripted_kernel.hpp"
#include "tests/support/socket_pair.hpp"

#include <kevring/runtime/detail/uring.hpp>
#include <kevring/runtime/features.hpp>
#include <kevring/runtime/operations/fsync.hpp>
#include <kevring/runtime/operations/nop.hpp>
#include <kevring/runtime/operations/receive.hpp>
#include <kevring/runtime/operations/send.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/when.hpp>

#include <array>
#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <sys/wait.h>

using kevring::ring;
using kevring::task;
using kevring::task_scope;
using namespace std::chrono_literals;

namespace {

constexpr kevring::ring_options small{.submission_entries = 8, .completion_entries = 8};

task<void> go_through(ring& loop, unsigned& done_count) {
    kevring::nop_operation nop(loop);
    const auto done = co_await nop;
    if (done) ++done_count;
}

struct counted_work : kevring::work {
    explicit counted_work(std::atomic<int>& counter) : work(run_it), counter(counter) {}
    static void run_it(work& self) noexcept { ++static_cast<counted_work&>(self).counter; }
    std::atomic<int>& counter;
};

}  // namespace

TEST_CASE("queues of 8 entries slow down and lose nothing", "[runtime][ring]") {
    ring loop(small);
    unsigned done_count = 0;
    auto body = [&]() -> task<void> {
        task_scope all(loop);
        for (int i = 0; i < 5000; ++i) all.spawn(go_through(loop, done_count));
        co_await all.join();
    };
    run_on(loop, body);
    CHECK(done_count == 5000);
    CHECK(loop.counters().full_submissions > 0);
    CHECK(loop.requests_in_flight() == 0);
}

// Each stop needs an entry of its own, when the submission queue is full of them already.
TEST_CASE("no stop is lost while the submission queue is full", "[runtime][ring]") {
    ring loop(small);
    socket_pair sockets;
    std::array<std::byte, 16> buffer{};
    unsigned ended_count = 0;
    auto wait = [&]() -> task<void> {
        kevring::receive_operation receive(loop, sockets.local(), buffer);
        const auto got = co_await receive;
        if (!got && got.error() == std::errc::operation_canceled) ++ended_count;
    };
    auto body = [&]() -> task<void> {
        task_scope all(loop);
        for (int i = 0; i < 500; ++i) all.spawn(wait());
        co_await kevring::yield();
        all.request_stop();
        co_await all.join();
    };
    run_on(loop, body);
    CHECK(ended_count == 500);
}

TEST_CASE("a stop in the iteration of the request itself ends it", "[runtime][ring]") {
    ring loop(small);
    socket_pair sockets;
    std::array<std::byte, 16> buffer{};
    auto body = [&]() -> task<void> {
        auto limit = co_await kevring::within(1h);
        task_scope side(loop);
        auto act = [&]() -> task<void> {
            limit.scope().request_stop();
            co_return;
        };
        auto wait = [&]() -> task<void> {
            kevring::receive_operation receive(loop, sockets.local(), buffer);
            const auto got = co_await receive;
            CHECK(got.error() == std::errc::operation_canceled);
        };
        task_scope inner(loop, &limit.scope());
        inner.spawn(wait());  // queued, not yet submitted
        side.spawn(act());
        co_await inner.join();
        co_await side.join();
    };
    run_on(loop, body);
}

TEST_CASE("an enter that is refused or interrupted is made again", "[runtime][ring]") {
    scripted_kernel script;
    ring loop(small, script);
    unsigned done_count = 0;
    for (const int answer : {-EBUSY, -EAGAIN, -EINTR})
        for (int i = 0; i < 3; ++i) script.enter_answers.push_back(answer);
    auto body = [&]() -> task<void> {
        task_scope all(loop);
        for (int i = 0; i < 100; ++i) all.spawn(go_through(loop, done_count));
        co_await all.join();
    };
    run_on(loop, body);
    CHECK(done_count == 100);
    CHECK(script.enter_answers.empty());
}

TEST_CASE("answers may come in any order", "[runtime][ring]") {
    scripted_kernel script;
    ring loop({}, script);
    std::vector<int> order;
    auto go = [&](int index) -> task<void> {
        kevring::nop_operation nop(loop);
        const auto done = co_await nop;
        CHECK(done.has_value());
        order.push_back(index);
    };
    auto body = [&]() -> task<void> {
        script.hold(IORING_OP_NOP);
        task_scope all(loop);
        for (int i = 0; i < 4; ++i) all.spawn(go(i));
        while (script.held_count() < 4) co_await kevring::yield();
        script.release();
        co_await all.join();
    };
    run_on(loop, body);
    CHECK(order == std::vector<int>{3, 2, 1, 0});
}

TEST_CASE("work posted by threads is done once each, awake or asleep", "[runtime][post][threads]") {
    constexpr int thread_count = 4;
    constexpr int post_count = 2000;
    ring loop;
    std::atomic<int> done{0};
    std::vector<std::unique_ptr<counted_work>> items;
    for (int i = 0; i < thread_count * post_count; ++i)
        items.push_back(std::make_unique<counted_work>(done));
    auto body = [&]() -> task<void> {
        std::vector<std::jthread> threads;
        for (int t = 0; t < thread_count; ++t)
            threads.emplace_back([&, t] {
                for (int i = 0; i < post_count; ++i) loop.post(*items[t * post_count + i]);
            });
        while (done.load() < thread_count * post_count) {
            // Sleeps at times, so that posts come to a ring that is asleep.
            const auto slept = co_await kevring::sleep_for(100us);
            if (!slept) co_return;
        }
    };
    run_on(loop, body);
    CHECK(done.load() == thread_count * post_count);
}

// Nothing else would end the sleep: without the wake this test runs into its deadline.
TEST_CASE("a post wakes a loop that sleeps, by message and by eventfd",
          "[runtime][post][threads]") {
    for (const bool by_eventfd : {false, true}) {
        CAPTURE(by_eventfd);
        scripted_kernel script;  // a kernel that is not the real one is woken by an eventfd
        ring loop({}, by_eventfd ? script : kevring::kernel::real());
        struct stopping_work : kevring::work {
            explicit stopping_work(kevring::cancel_scope& scope)
                : work([](work& self) noexcept {
                      static_cast<stopping_work&>(self).scope.request_stop();
                  }),
                  scope(scope) {}
            kevring::cancel_scope& scope;
        };
        auto body = [&]() -> task<void> {
            auto limit = co_await kevring::within(1h);
            stopping_work stop(limit.scope());
            std::jthread poster([&] {
                std::this_thread::sleep_for(
                    1ms);  // gives the loop time to fall asleep; either way is right
                loop.post(stop);
            });
            const auto slept = co_await kevring::sleep_for(1h);
            CHECK(slept.error() == std::errc::operation_canceled);
        };
        run_on(loop, body);
    }
}

// The stream below is never empty: each receive ends at once, without the loop.
TEST_CASE("a coroutine that never waits does not starve the others", "[runtime][ring]") {
    ring loop;
    unsigned inline_count = 0;
    bool other_ran = false;
    auto spin = [&]() -> task<void> {
        while (!other_ran && inline_count < 10'000'000) {
            if (!loop.spend_inline_budget()) co_await kevring::yield();
            ++inline_count;
        }
    };
    auto other = [&]() -> task<void> {
        kevring::nop_operation nop(loop);
        const auto done = co_await nop;
        CHECK(done.has_value());
        other_ran = true;
    };
    auto body = [&]() -> task<void> {
        task_scope all(loop);
        all.spawn(other());
        all.spawn(spin());
        co_await all.join();
    };
    run_on(loop, body);
    CHECK(inline_count < 10'000);
}

TEST_CASE("a ring that goes stops what is in flight and waits for it", "[runtime][ring]") {
    socket_pair sockets;
    std::array<std::byte, 16> buffer{};
    unsigned ended_count = 0;
    {
        ring loop;
        // In the ring's root scope and in no other: no task joins these.
        task_scope all(loop);
        auto wait = [&]() -> task<void> {
            kevring::receive_operation receive(loop, sockets.local(), buffer);
            const auto got = co_await receive;
            CHECK(got.error() == std::errc::operation_canceled);
            const auto slept = co_await kevring::sleep_for(1h);
            CHECK(slept.error() == std::errc::operation_canceled);
            ++ended_count;
        };
        auto begin = [&]() -> task<void> {
            for (int i = 0; i < 10; ++i) all.spawn(wait());
            co_return;
        };
        kevring::run(loop, begin());
        CHECK(all.active_count() == 10);
        loop.root_scope().request_stop();
        bool none_left = false;
        auto end = [&]() -> task<void> {
            co_await all.join();
            none_left = true;
        };
        kevring::run(loop, end());
        CHECK(none_left);
    }
    CHECK(ended_count == 10);
}

// Its owner did not stop anything: the ring does it, also for what hangs in no scope of the root.
TEST_CASE("a ring that goes with sleepers and requests ends them", "[runtime][ring]") {
    unsigned ended_count = 0;
    socket_pair sockets;
    std::array<std::byte, 16> buffer{};
    std::optional<ring> loop(std::in_place);
    std::optional<kevring::cancel_scope> apart(std::in_place, *loop);
    {
        task_scope within_root(*loop);
        task_scope elsewhere(*loop, &*apart);
        auto wait = [&]() -> task<void> {
            const auto slept = co_await kevring::sleep_for(1h);
            CHECK_FALSE(slept.has_value());
            kevring::receive_operation receive(*loop, sockets.local(), buffer);
            const auto got = co_await receive;
            CHECK(got.error() == std::errc::operation_canceled);
            ++ended_count;
        };
        auto begin = [&]() -> task<void> {
            within_root.spawn(wait());
            elsewhere.spawn(wait());
            co_return;
        };
        kevring::run(*loop, begin());
        loop->root_scope().request_stop();
        bool joined = false;
        auto end = [&]() -> task<void> {
            co_await within_root.join();
            co_await elsewhere.join();
            joined = true;
        };
        kevring::run(*loop, end());
        CHECK(joined);
    }
    apart.reset();
    loop.reset();
    CHECK(ended_count == 2);
}

TEST_CASE("a child process gets an error for a ring of its parent", "[runtime][ring][fork]") {
    ring loop;
    unsigned done_count = 0;
    kevring::run(loop, go_through(loop, done_count));
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        int status = 1;
        try {
            kevring::run(loop, go_through(loop, done_count));
        } catch (const std::system_error& failure) {
            status = std::string(failure.what()).find("fork()") != std::string::npos ? 0 : 2;
        }
        ::_exit(status);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
    kevring::run(loop, go_through(loop, done_count));
    CHECK(done_count == 2);
}

TEST_CASE("where io_uring cannot be had, the error names the cause and the remedy",
          "[runtime][ring]") {
    struct refusal {
        int error;
        const char* word;
    };
    for (const refusal& each :
         {refusal{ENOSYS, "CONFIG_IO_URING"}, refusal{EPERM, "seccomp"}, refusal{ENOMEM, "memlock"},
          refusal{EMFILE, "ulimit -n"}, refusal{EINVAL, "6.1"}}) {
        CAPTURE(each.error, each.word);
        scripted_kernel script;
        script.setup_error = each.error;
        try {
            const ring loop({}, script);
            FAIL("made");
        } catch (const std::system_error& failure) {
            CHECK(failure.code().value() == each.error);
            std::string text = failure.what();
            for (char& c : text) c = static_cast<char>(std::tolower(c));
            std::string word = each.word;
            for (char& c : word) c = static_cast<char>(std::tolower(c));
            CHECK_THAT(text, ContainsSubstring(word));
        }
    }
}

TEST_CASE("a ring says what it does and what the kernel offers", "[runtime][features]") {
    ring loop;
    unsigned done_count = 0;
    kevring::run(loop, go_through(loop, done_count));
    CHECK(loop.counters().requests == 1);
    CHECK(loop.counters().completions >= 1);
    CHECK(loop.counters().enters >= 1);
    CHECK_THAT(kevring::describe(), ContainsSubstring("send_message"));
}

TEST_CASE("requests that a worker of the kernel carries out are counted as punts",
          "[runtime][ring]") {
    ring loop;
    const kevring::fd file(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    auto body = [&]() -> task<void> {
        unsigned done_count = 0;
        co_await go_through(loop, done_count);
        CHECK(loop.counters().punts == 0);
        kevring::fsync_operation sync(loop, file);
        const auto synced = co_await sync;
        CHECK(!synced.has_value());  // it is no file; a worker has found that out
        CHECK(loop.counters().punts == 1);
    };
    kevring::run(loop, body());
}

TEST_CASE("sleeping costs no enter but one, and time that does not advance passes immediately",
          "[runtime][sleep]") {
    scripted_kernel script;
    script.clock_ns = 1'000'000'000'000;
    ring loop({}, script);
    auto body = [&]() -> task<void> {
        const auto slept = co_await kevring::sleep_for(100h);
        CHECK(slept.has_value());
    };
    kevring::run(loop, body());
    CHECK(*script.clock_ns >= 1'000'000'000'000 + 360'000'000'000'000);
    CHECK(loop.counters().enters <= 4);
}

TEST_CASE("the cached time is that of the first read since the loop observed an event",
          "[runtime][ring]") {
    scripted_kernel script;
    script.clock_ns = 1'000;
    ring loop({}, script);
    auto body = [&]() -> task<void> {
        CHECK(loop.cached_now_ns() == 1'000);
        script.clock_ns = 2'000;
        CHECK(loop.cached_now_ns() == 1'000);
        CHECK(loop.now_ns() == 2'000);
        const std::uint64_t before = loop.generation();
        kevring::nop_operation nop(loop);
        const auto done = co_await nop;
        CHECK(done.has_value());
        CHECK(loop.generation() != before);
        CHECK(loop.cached_now_ns() == 2'000);
    };
    kevring::run(loop, body());
}
