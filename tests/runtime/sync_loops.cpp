// Primitives of several loops: exclusion, order, and destruction by the waiter that was released.
#include "tests/support/catch.hpp"
#include "tests/support/run_on.hpp"

#include <kevring/runtime/condition.hpp>
#include <kevring/runtime/latch.hpp>
#include <kevring/runtime/mutex.hpp>
#include <kevring/runtime/once.hpp>
#include <kevring/runtime/reset_event.hpp>
#include <kevring/runtime/semaphore.hpp>
#include <kevring/runtime/when.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <memory>
#include <thread>

using kevring::result;
using kevring::ring;
using kevring::task;
using kevring::yield;
using namespace std::chrono_literals;

TEST_CASE("loops exclude each other by a mutex", "[runtime][sync][threads]") {
    kevring::cross_loop::mutex m;
    kevring::cross_loop::shared_mutex shared;
    kevring::cross_loop::semaphore permits(2);
    kevring::cross_loop::barrier phases(4);
    int guarded = 0;
    int written = 0;
    std::atomic<int> holders{0};
    std::atomic<int> holders_max{0};
    std::atomic<int> failures{0};
    std::atomic<int> timeouts{0};
    auto body = [&](unsigned index) -> task<void> {
        const auto limit = co_await kevring::within(test_deadline);
        int increments = 0;
        while (increments < 500) {
            auto guard = co_await kevring::with_timeout(m.lock(), 200us);
            if (!guard) {
                ++timeouts;
                if (limit.expired()) ++failures;
                if (limit.expired()) co_return;
                continue;
            }
            ++guarded;
            if (++increments % 16 == 0) co_await yield();
        }
        for (int i = 0; i < 200; ++i) {
            if (index == 0) {
                auto guard = co_await shared.lock();
                if (guard) ++written;
            } else {
                auto guard = co_await shared.lock_shared();
                if (guard && written < 0) ++failures;
            }
            const auto permit = co_await permits.acquire();
            if (!permit) continue;
            const int held = ++holders;
            int most = holders_max.load();
            while (most < held && !holders_max.compare_exchange_weak(most, held)) {}
            co_await yield();
            --holders;
            permits.release();
            const auto last = co_await phases.arrive_and_wait();
            if (!last) ++failures;
        }
    };
    kevring::run(4, body);
    CHECK(guarded == 2000);
    CHECK(written == 200);
    CHECK(holders_max <= 2);
    CHECK(failures == 0);
}

// The thread that counts down last must be out of the latch before it is destroyed.
TEST_CASE("a waiter on another loop destroys a latch as soon as it is released",
          "[runtime][sync][threads]") {
    std::atomic<kevring::cross_loop::latch*> shared{nullptr};
    std::atomic<bool> done{false};
    std::jthread other([&] {
        while (!done) {
            if (auto* const latch = shared.exchange(nullptr))
                latch->count_down();
            else
                std::this_thread::yield();
        }
    });
    ring loop;
    auto body = [&]() -> task<void> {
        for (int i = 0; i < 500; ++i) {
            auto latch = std::make_unique<kevring::cross_loop::latch>(1);
            shared = latch.get();
            const auto waited = co_await latch->wait();
            REQUIRE(waited.has_value());
            latch.reset();
        }
    };
    run_on(loop, body);
    done = true;
}

// Each loop comes at its own pace to a body that fails once. The value is not atomic: the end of the body
// happens before each call that succeeds.
TEST_CASE("a body runs once for several loops, and again where it has failed",
          "[runtime][sync][once][threads]") {
    constexpr std::size_t loop_count = 4;
    struct shared_work {
        kevring::cross_loop::once once;
        std::atomic<int> runs{0};
        std::atomic<int> running{0};
        int value = 0;
    };
    std::array<shared_work, 100> works;
    std::atomic<int> succeeded{0};
    std::atomic<int> failed{0};
    std::atomic<int> wrong{0};
    auto call_each = [&]() -> task<void> {
        for (shared_work& work : works) {
            auto body = [&]() -> task<result<void>> {
                if (++work.running != 1) ++wrong;
                co_await yield();
                const int run = ++work.runs;
                --work.running;
                if (run == 1) co_return kevring::error_from(std::errc::io_error);
                ++work.value;
                co_return result<void>();
            };
            const auto called = co_await work.once.call(body);
            if (called) {
                ++succeeded;
                if (work.value != 1 || !work.once.is_done()) ++wrong;
            } else {
                ++failed;
                if (called.error() != std::errc::io_error) ++wrong;
            }
        }
    };
    auto body = [&](unsigned) -> task<void> {
        const auto limit = co_await kevring::within(test_deadline);
        co_await kevring::when_all(call_each(), call_each());
    };

    kevring::run(loop_count, body);

    CHECK(wrong == 0);
    CHECK(failed == static_cast<int>(works.size()));
    CHECK(succeeded == static_cast<int>((2 * loop_count - 1) * works.size()));
    for (const shared_work& work : works) CHECK(work.runs == 2);
}

TEST_CASE("loops take turns by a condition, and pass a flag on by events",
          "[runtime][sync][condition][threads]") {
    constexpr unsigned loop_count = 3;
    constexpr unsigned round_count = 100;
    kevring::cross_loop::mutex m;
    kevring::cross_loop::condition changed;
    unsigned turn = 0;
    kevring::cross_loop::manual_reset_event begin;
    std::array<kevring::cross_loop::auto_reset_event, loop_count> passed;
    unsigned passes = 0;  // written by the loop that has the flag
    std::atomic<int> failures{0};
    auto body = [&](unsigned index) -> task<void> {
        const auto limit = co_await kevring::within(test_deadline);
        for (unsigned round = 0; round < round_count; ++round) {
            auto guard = co_await m.lock();
            while (guard && turn % loop_count != index) {
                const auto notified = co_await changed.wait(*guard);
                if (notified) continue;
                ++failures;
                co_return;
            }
            ++turn;
            changed.notify_all();
        }
        if (index == 0) begin.set();
        const auto begun = co_await begin.wait();
        if (index == 0) passed[0].set();
        for (unsigned round = 0; round < round_count; ++round) {
            const auto mine = co_await passed[index].wait();
            if (!begun || !mine || passes != round * loop_count + index) ++failures;
            ++passes;
            passed[(index + 1) % loop_count].set();
        }
    };

    kevring::run(loop_count, body);

    CHECK(failures == 0);
    CHECK(turn == loop_count * round_count);
    CHECK(passes == loop_count * round_count);
}
