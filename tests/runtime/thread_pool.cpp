// Blocking calls and computations on the threads of a pool.
#include "tests/support/catch.hpp"
#include "tests/support/child_process.hpp"
#include "tests/support/run_on.hpp"

#include <kevring/runtime/thread_pool.hpp>
#include <kevring/runtime/when.hpp>

#include <atomic>
#include <latch>
#include <memory>
#include <optional>
#include <semaphore>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using kevring::blocking;
using kevring::result;
using kevring::resume_on;
using kevring::ring;
using kevring::task;
using kevring::thread_pool;
using kevring::thread_pool_options;
using namespace std::chrono_literals;

namespace {

// A job that occupies a thread until release().
class gate {
public:
    void pass() {
        entered_.count_down();
        open_.acquire();
    }
    void wait_until_entered() { entered_.wait(); }
    void release() { open_.release(); }

private:
    std::latch entered_{1};
    std::binary_semaphore open_{0};
};

// ThreadSanitizer ends a forked process that creates a thread.
#if defined(__SANITIZE_THREAD__)
constexpr bool child_has_threads = false;
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
constexpr bool child_has_threads = false;
#else
constexpr bool child_has_threads = true;
#endif
#else
constexpr bool child_has_threads = true;
#endif

constexpr thread_pool_options one_thread{.thread_count_max = 1, .queue_count_max = 1};

// Runs `during` while the only thread of the pool is occupied.
template <class During>
task<void> while_occupied(thread_pool& pool, During& during) {
    gate occupied;
    kevring::cancel_scope& scope = co_await kevring::current_scope();
    ring& loop = scope.loop();
    kevring::task_scope side(loop);
    auto occupy = [&]() -> task<void> {
        auto job = [&] { occupied.pass(); };
        const result<void> called = co_await blocking(pool, job);
        CHECK(called.has_value());
    };
    side.spawn(occupy());
    occupied.wait_until_entered();
    co_await during();
    occupied.release();
    co_await side.join();
}

}  // namespace

TEST_CASE("a blocking call runs on another thread and returns its value", "[runtime][pool]") {
    ring loop;
    thread_pool pool;
    const std::thread::id here = std::this_thread::get_id();
    auto body = [&]() -> task<std::string> {
        auto call = [&] {
            return std::this_thread::get_id() != here ? std::make_unique<std::string>("other")
                                                      : nullptr;
        };
        const result<std::unique_ptr<std::string>> value = co_await blocking(pool, call);
        CHECK(std::this_thread::get_id() == here);
        auto without_value = [] {};
        const result<void> done = co_await blocking(without_value);
        CHECK(done.has_value());
        co_return **value;
    };

    CHECK(run_on(loop, body) == "other");
    CHECK(pool.counters().started_count == 1);
    CHECK(pool.counters().thread_count == 1);
}

TEST_CASE("an exception and an error of a blocking call reach the caller", "[runtime][pool]") {
    ring loop;
    thread_pool pool(one_thread);
    auto body = [&]() -> task<std::string> {
        auto failing = []() -> result<int> { return kevring::error_from(std::errc::io_error); };
        const result<int> failed = co_await blocking(pool, failing);
        CHECK(failed.error() == std::errc::io_error);
        auto throwing = []() -> int { throw std::runtime_error("disk"); };
        try {
            const result<int> value = co_await blocking(pool, throwing);
            co_return value ? "value" : "error";
        } catch (const std::runtime_error& error) {
            co_return error.what();
        }
    };

    CHECK(run_on(loop, body) == "disk");
}

TEST_CASE("the loop continues while a blocking call runs", "[runtime][pool]") {
    ring loop;
    thread_pool pool(one_thread);
    int count = 0;
    auto during = [&]() -> task<void> {
        for (; count < 10; ++count) co_await kevring::yield();
    };
    auto body = [&] { return while_occupied(pool, during); };

    run_on(loop, body);

    CHECK(count == 10);
}

TEST_CASE("a stop or deadline ends the wait for a thread, and the call is not made",
          "[runtime][pool]") {
    ring loop;
    thread_pool pool(one_thread);
    bool called = false;
    auto call = [&] { called = true; };
    auto during = [&]() -> task<void> {
        const result<void> late = co_await kevring::with_timeout(blocking(pool, call), 1ms);
        CHECK(late.error() == std::errc::timed_out);

        kevring::task_scope stopped(loop);
        result<void> outcome;
        auto wait = [&]() -> task<void> { outcome = co_await blocking(pool, call); };
        stopped.spawn(wait());
        CHECK(pool.counters().queued_count == 1);
        stopped.request_stop();
        co_await stopped.join();
        CHECK(outcome.error() == std::errc::operation_canceled);

        stopped.spawn(wait());  // its scope was stopped before
        co_await stopped.join();
        CHECK(outcome.error() == std::errc::operation_canceled);
    };
    auto body = [&] { return while_occupied(pool, during); };

    run_on(loop, body);

    CHECK_FALSE(called);
    CHECK(pool.counters().canceled_count == 2);
    CHECK(pool.counters().queued_count == 0);
}

TEST_CASE("a call that has started keeps its result after a stop", "[runtime][pool]") {
    ring loop;
    thread_pool pool(one_thread);
    gate inside;
    result<int> plain;
    result<bool> stoppable;
    auto body = [&]() -> task<void> {
        auto call = [&] {
            inside.pass();
            return 5;
        };
        auto wait = [&]() -> task<void> { plain = co_await blocking(pool, call); };
        kevring::task_scope stopped(loop);
        stopped.spawn(wait());
        inside.wait_until_entered();
        stopped.request_stop();
        inside.release();
        co_await stopped.join();

        std::latch entered(1);
        auto polling = [&](std::stop_token stop) {
            entered.count_down();
            while (!stop.stop_requested()) std::this_thread::yield();
            return true;
        };
        auto wait_for_stop = [&]() -> task<void> { stoppable = co_await blocking(pool, polling); };
        kevring::task_scope second(loop);
        second.spawn(wait_for_stop());
        entered.wait();
        second.request_stop();
        co_await second.join();
    };

    run_on(loop, body);

    CHECK(plain.value() == 5);
    CHECK(stoppable.value());
}

TEST_CASE("a full queue refuses a call, and jobs start in the order of arrival",
          "[runtime][pool]") {
    ring loop;
    thread_pool pool({.thread_count_max = 1, .queue_count_max = 3});
    std::vector<int> order;
    auto body = [&]() -> task<void> {
        kevring::task_scope waiting(loop);
        auto call = [&](int number) -> task<void> {
            auto note = [&, number] { order.push_back(number); };
            const result<void> called = co_await blocking(pool, note);
            CHECK(called.has_value());
        };
        auto during = [&]() -> task<void> {
            for (int i = 0; i < 3; ++i) waiting.spawn(call(i));
            auto nothing = [] {};
            const result<void> refused = co_await blocking(pool, nothing);
            CHECK(refused.error() == std::errc::resource_unavailable_try_again);
        };
        co_await while_occupied(pool, during);
        co_await waiting.join();
    };

    run_on(loop, body);

    CHECK(order == std::vector<int>{0, 1, 2});
    CHECK(pool.counters().refused_count == 1);
    CHECK(pool.counters().queued_count_most == 3);
}

TEST_CASE("a pool creates threads as jobs need them, up to its bound", "[runtime][pool]") {
    ring loop;
    thread_pool pool({.thread_count_max = 3, .queue_count_max = 8});
    std::latch all(3);
    std::atomic<int> calls{0};
    auto body = [&]() -> task<void> {
        kevring::task_scope side(loop);
        auto call = [&]() -> task<void> {
            auto meet = [&] {
                if (calls.fetch_add(1) < 3) all.arrive_and_wait();
            };
            const result<void> called = co_await blocking(pool, meet);
            CHECK(called.has_value());
        };
        for (int i = 0; i < 6; ++i) side.spawn(call());
        co_await side.join();
    };

    run_on(loop, body);

    CHECK(pool.counters().thread_count == 3);
    CHECK(pool.counters().started_count == 6);
    CHECK_THROWS_AS(thread_pool({.thread_count_max = 0}), std::invalid_argument);
}

TEST_CASE("the destructor of a ring waits for a call that runs", "[runtime][pool]") {
    thread_pool pool(one_thread);
    std::atomic<bool> returned{false};
    gate inside;
    auto call = [&] {
        inside.pass();
        std::this_thread::sleep_for(3ms);  // longer than the destructor, if it did not wait
        returned.store(true);
    };
    auto wait = [&]() -> task<void> {
        const result<void> called = co_await blocking(pool, call);
        CHECK(called.has_value());
    };
    {
        ring loop;
        kevring::spawn(loop, wait());
        loop.run_once(false);
        loop.run_once(false);
        inside.wait_until_entered();
        inside.release();
    }

    CHECK(returned.load());
}

TEST_CASE("a coroutine computes on a pool and returns to its loop and scope", "[runtime][pool]") {
    ring loop;
    thread_pool pool;
    const std::thread::id here = std::this_thread::get_id();
    auto square = [](int value) -> task<int> { co_return value* value; };
    auto body = [&]() -> task<int> {
        kevring::cancel_scope& scope = co_await kevring::current_scope();
        const result<void> moved = co_await resume_on(pool);
        CHECK(moved.has_value());
        const bool elsewhere = std::this_thread::get_id() != here;
        int sum = 0;
        for (int i = 0; i < 10; ++i) sum += co_await square(i);
        co_await resume_on(loop);
        CHECK(elsewhere);
        CHECK(std::this_thread::get_id() == here);
        kevring::cancel_scope& again = co_await kevring::current_scope();
        CHECK(&again == &scope);
        co_await resume_on(loop);  // on the loop already
        co_return sum;
    };

    CHECK(run_on(loop, body) == 285);
}

TEST_CASE("a stop ends the wait for a visit of the pool, and not the visit", "[runtime][pool]") {
    ring loop;
    thread_pool pool(one_thread);
    auto during = [&]() -> task<void> {
        kevring::task_scope stopped(loop);
        std::error_code failure;
        auto visit = [&]() -> task<void> {
            const result<void> moved = co_await resume_on(pool);
            if (!moved) failure = moved.error();
            co_await resume_on(loop);
        };
        stopped.spawn(visit());
        stopped.request_stop();
        co_await stopped.join();
        CHECK(failure == std::errc::operation_canceled);
    };
    gate inside;
    auto body = [&]() -> task<void> {
        co_await while_occupied(pool, during);
        kevring::task_scope stopped(loop);
        bool completed = false;
        auto visit = [&]() -> task<void> {
            const result<void> moved = co_await resume_on(pool);
            inside.pass();
            co_await resume_on(loop);
            completed = moved.has_value();
        };
        stopped.spawn(visit());
        inside.wait_until_entered();
        stopped.request_stop();
        inside.release();
        co_await stopped.join();
        CHECK(completed);
    };

    run_on(loop, body);
}

TEST_CASE("a coroutine that ends on a thread of the pool is an assertion", "[runtime][pool]") {
    if (!child_has_threads) return;
    const child_outcome outcome = run_in_child([] {
        ring loop;
        thread_pool pool;
        auto stays = [&]() -> task<void> { static_cast<void>(co_await resume_on(pool)); };
        kevring::spawn(loop, stays());
        for (int i = 0; i < 10; ++i) loop.run_once(true);
    });

    CHECK(outcome.asserted(
        "coroutine ended or waited on a thread of a pool; co_await resume_on(loop) first"));
}

TEST_CASE("a child process has a shared pool of its own", "[runtime][pool]") {
    if (!child_has_threads) return;
    ring loop;
    auto call = [] { return 1; };
    auto body = [&]() -> task<int> {
        const result<int> value = co_await blocking(call);
        co_return value.value();
    };
    REQUIRE(run_on(loop, body) == 1);
    thread_pool parents;

    const child_outcome outcome = run_in_child([&] {
        ring own;
        if (run_on(own, body) != 1) throw std::runtime_error("no value");
        auto refused = [&]() -> task<bool> {
            const result<int> value = co_await blocking(parents, call);
            co_return !value && value.error() == std::errc::operation_not_permitted;
        };
        if (!run_on(own, refused)) throw std::runtime_error("not refused");
    });

    CHECK(outcome.exited(0));
}

// Stops, ends of calls and ends of loops cross in all orders.
TEST_CASE("blocking calls of several loops that are stopped at any time end once",
          "[runtime][pool][stress]") {
    thread_pool pool({.thread_count_max = 2, .queue_count_max = 1024});
    std::atomic<int> outcomes{0};
    std::atomic<int> calls{0};
    constexpr int call_count = 200;
    auto drive = [&] {
        ring loop;
        auto call = [&] { calls.fetch_add(1, std::memory_order_relaxed); };
        auto one = [&](int number) -> task<void> {
            const result<void> done = co_await kevring::with_timeout(
                blocking(pool, call), std::chrono::microseconds(number % 7 * 20));
            if (done || done.error() == std::errc::timed_out)
                outcomes.fetch_add(1, std::memory_order_relaxed);
        };
        auto body = [&]() -> task<void> {
            kevring::task_scope all(loop);
            for (int i = 0; i < call_count; ++i) {
                all.spawn(one(i));
                if (i % 16 == 0) co_await kevring::yield();
            }
            co_await all.join();
        };
        run_on(loop, body);
    };
    {
        std::jthread first(drive);
        std::jthread second(drive);
    }

    CHECK(outcomes.load() == 2 * call_count);
    const kevring::thread_pool_counters now = pool.counters();
    CHECK(static_cast<std::uint64_t>(calls.load()) == now.started_count);
    CHECK(now.queued_count == 0);
}
