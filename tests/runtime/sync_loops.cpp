// Primitives of several loops: exclusion, and destruction by the waiter that was released.
#include "tests/support/catch.hpp"
#include "tests/support/run_on.hpp"

#include <kevring/runtime/latch.hpp>
#include <kevring/runtime/mutex.hpp>
#include <kevring/runtime/semaphore.hpp>
#include <kevring/runtime/when.hpp>

#include <atomic>
#include <memory>
#include <thread>

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
        for (int i = 0; i < 2000; ++i) {
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
