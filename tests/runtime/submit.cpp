// Tasks and functions that one thread gives to the loop of another.
#include "tests/support/catch.hpp"
#include "tests/support/child_process.hpp"
#include "tests/support/loop_thread.hpp"
#include "tests/support/run_on.hpp"

#include <kevring/runtime/reset_event.hpp>
#include <kevring/runtime/submit.hpp>
#include <kevring/runtime/when.hpp>

#include <atomic>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using kevring::result;
using kevring::ring;
using kevring::submit;
using kevring::submitted_task;
using kevring::task;
using namespace std::chrono_literals;

namespace {

task<std::string> name_thread() {
    co_await kevring::yield();
    co_return ring::current() != nullptr ? "loop" : "none";
}
task<result<void>> sleep_long() { co_return co_await kevring::sleep_for(1h); }
task<std::error_code> stop_reason() {
    const result<void> slept = co_await kevring::sleep_for(1h);
    co_return slept ? std::error_code() : slept.error();
}
task<int> fail_with(std::string text) {
    co_await kevring::yield();
    throw std::runtime_error(text);
}
// One iteration of two rings of this thread, in this order.
void turn_both(ring& first, ring& second) {
    first.run_once(false);
    second.run_once(false);
}

}  // namespace

TEST_CASE("a submitted task returns its value to another loop", "[runtime][submit]") {
    loop_thread other;
    ring here;
    const ring* ran_on = nullptr;
    auto child = [&]() -> task<std::unique_ptr<int>> {
        co_await kevring::yield();
        ran_on = ring::current();
        co_return std::make_unique<int>(7);
    };
    auto body = [&]() -> task<int> {
        submitted_task<std::unique_ptr<int>> pending = submit(other.loop(), child());
        const std::unique_ptr<int> value = co_await pending.join();
        co_return *value;
    };

    CHECK(run_on(here, body) == 7);
    CHECK(ran_on == &other.loop());
}

TEST_CASE("an exception of a submitted task is thrown by its join", "[runtime][submit]") {
    loop_thread other;
    ring here;
    auto body = [&]() -> task<std::string> {
        submitted_task<int> pending = submit(other.loop(), fail_with("no such record"));
        try {
            const int value = co_await pending.join();
            co_return std::to_string(value);
        } catch (const std::runtime_error& error) {
            co_return error.what();
        }
    };

    CHECK(run_on(here, body) == "no such record");
}

TEST_CASE("a thread without a loop gets the value of a submitted task", "[runtime][submit]") {
    loop_thread other;

    CHECK(submit(other.loop(), name_thread()).get() == "loop");
    CHECK_THROWS_AS(submit(other.loop(), fail_with("x")).get(), std::runtime_error);
    submit(other.loop(), []() -> task<void> { co_return; }()).get();
}

TEST_CASE("a join before and after the end of the task gives the value", "[runtime][submit]") {
    ring first;
    ring second;
    kevring::manual_reset_event go;
    auto child = [&]() -> task<int> {
        static_cast<void>(co_await go.wait());
        co_return 3;
    };
    std::vector<int> values;
    auto joining = [&](submitted_task<int>& pending) -> task<void> {
        values.push_back(co_await pending.join());
    };
    submitted_task<int> early = submit(second, child());
    submitted_task<int> late = submit(second, child());
    CHECK_FALSE(late.is_ready());

    kevring::spawn(first, joining(early));
    for (int i = 0; i < 4; ++i) turn_both(first, second);
    CHECK(values.empty());
    go.set();
    for (int i = 0; i < 4; ++i) turn_both(first, second);
    CHECK(values == std::vector<int>{3});

    CHECK(late.is_ready());
    kevring::spawn(first, joining(late));
    for (int i = 0; i < 4; ++i) first.run_once(false);
    CHECK(values == std::vector<int>{3, 3});
}

TEST_CASE("a stop and a deadline around a join reach the task with their cause",
          "[runtime][submit]") {
    loop_thread other;
    ring here;
    auto by_deadline = [&]() -> task<std::error_code> {
        submitted_task<std::error_code> pending = submit(other.loop(), stop_reason());
        co_return co_await kevring::with_timeout(pending.join(), 1ms);
    };
    auto by_stop = [&]() -> task<std::error_code> {
        submitted_task<std::error_code> pending = submit(other.loop(), stop_reason());
        kevring::task_scope joining(here);
        std::optional<std::error_code> reason;
        auto join = [&]() -> task<void> { reason = co_await pending.join(); };
        joining.spawn(join());
        joining.request_stop();
        co_await joining.join();
        co_return *reason;
    };
    auto stopped_before = [&]() -> task<std::error_code> {
        submitted_task<std::error_code> pending = submit(other.loop(), stop_reason());
        kevring::task_scope joining(here);
        joining.request_stop();
        std::optional<std::error_code> reason;
        auto join = [&]() -> task<void> { reason = co_await pending.join(); };
        joining.spawn(join());
        co_await joining.join();
        co_return *reason;
    };

    CHECK(run_on(here, by_deadline) == std::errc::timed_out);
    CHECK(run_on(here, by_stop) == std::errc::operation_canceled);
    CHECK(run_on(here, stopped_before) == std::errc::operation_canceled);
}

TEST_CASE("a stop before the task starts ends its first await", "[runtime][submit]") {
    ring loop;
    submitted_task<std::error_code> pending = submit(loop, stop_reason());

    pending.request_stop();
    for (int i = 0; i < 4 && !pending.is_ready(); ++i) loop.run_once(false);

    REQUIRE(pending.is_ready());
    CHECK(pending.get() == std::errc::operation_canceled);
}

TEST_CASE("the loser of a race is a task that was stopped", "[runtime][submit]") {
    loop_thread other;
    ring here;
    auto body = [&]() -> task<std::error_code> {
        submitted_task<std::error_code> slow = submit(other.loop(), stop_reason());
        submitted_task<std::string> fast = submit(other.loop(), name_thread());
        const auto race = co_await kevring::when_any(slow.join(), fast.join());
        co_return race.index == 1 ? std::get<0>(race.values).value() : std::error_code();
    };

    CHECK(run_on(here, body) == std::errc::operation_canceled);
}

TEST_CASE("a task that is dropped is stopped, and a detached one continues", "[runtime][submit]") {
    ring loop;
    std::vector<std::string> events;
    auto child = [&](std::string name) -> task<void> {
        const result<void> slept = co_await kevring::sleep_for(5ms);
        events.push_back(name + (slept ? " ended" : " stopped"));
    };
    {
        const submitted_task<void> dropped = submit(loop, child("dropped"));
        loop.run_once(false);
    }
    submit(loop, child("detached")).detach();
    auto wait_for_both = [&]() -> task<void> {
        while (events.size() < 2) static_cast<void>(co_await kevring::sleep_for(1ms));
    };
    run_on(loop, wait_for_both);

    CHECK(events == std::vector<std::string>{"dropped stopped", "detached ended"});
}

TEST_CASE("the destructor of a loop ends its submitted tasks, started or not",
          "[runtime][submit]") {
    auto loop = std::make_unique<ring>();
    submitted_task<result<void>> started = submit(*loop, sleep_long());
    loop->run_once(false);
    loop->run_once(false);
    submitted_task<result<void>> waiting = submit(*loop, sleep_long());

    loop.reset();

    CHECK(started.get().error() == std::errc::operation_canceled);
    CHECK(waiting.get().error() == std::errc::operation_canceled);
}

TEST_CASE("the destructor of a loop waits for a task of another loop that it joins",
          "[runtime][submit]") {
    loop_thread other;
    std::atomic<bool> ended{false};
    auto stubborn = [&]() -> task<void> {
        static_cast<void>(co_await kevring::sleep_for(1h));  // ends by the stop
        for (int i = 0; i < 50; ++i) co_await kevring::yield();
        ended.store(true, std::memory_order_relaxed);
    };
    auto joining = [&](submitted_task<void> pending) -> task<void> { co_await pending.join(); };
    {
        ring here;
        kevring::spawn(here, joining(submit(other.loop(), stubborn())));
        for (int i = 0; i < 3; ++i) here.run_once(false);
    }

    CHECK(ended.load(std::memory_order_relaxed));
}

TEST_CASE("functions are called on the loop in the order of their posts", "[runtime][submit]") {
    std::vector<int> order;
    std::thread::id ran_on;
    {
        loop_thread other;
        for (int i = 0; i < 100; ++i) {
            kevring::post(other.loop(), [&, owned = std::make_unique<int>(i)] {
                order.push_back(*owned);
                ran_on = std::this_thread::get_id();
            });
        }
    }  // the destructor of the ring calls those that are pending

    REQUIRE(order.size() == 100);
    for (int i = 0; i < 100; ++i) CHECK(order[static_cast<std::size_t>(i)] == i);
    CHECK(ran_on != std::this_thread::get_id());
}

TEST_CASE("a child process cannot submit to a ring of its parent", "[runtime][submit]") {
    ring loop;
    loop.claim();
    const child_outcome outcome = run_in_child([&] {
        bool posted = false;
        kevring::post(loop, [&] { posted = true; });
        submitted_task<std::string> pending = submit(loop, name_thread());
        try {
            static_cast<void>(pending.get());
        } catch (const std::system_error& error) {
            if (error.code() == std::errc::operation_not_permitted && !posted) return;
        }
        throw std::logic_error("the child submitted a task");
    });

    CHECK(outcome.exited(0));
}

// The ends of tasks, their stops, and the ends of the joining loops cross in all orders.
TEST_CASE("submits and stops between loops that cross end each task once",
          "[runtime][submit][stress]") {
    std::atomic<int> ended_count{0};
    constexpr int round_count = 60;
    {
        loop_thread first;
        loop_thread second;
        auto child = [&](int number) -> task<int> {
            for (int i = 0; i < number % 4; ++i) co_await kevring::yield();
            static_cast<void>(co_await kevring::sleep_for(number % 3 == 0 ? 0us : 1h));
            ended_count.fetch_add(1, std::memory_order_relaxed);
            co_return number;
        };
        auto drive = [&](ring& target, int shift) -> task<int> {
            int sum = 0;
            for (int i = 0; i < round_count; ++i) {
                submitted_task<int> pending = submit(target, child(i + shift));
                if (i % 2 == 0) pending.request_stop();
                sum += co_await kevring::with_timeout(pending.join(), 200us);
            }
            co_return sum;
        };
        submitted_task<int> there = submit(first.loop(), drive(second.loop(), 0));
        submitted_task<int> back = submit(second.loop(), drive(first.loop(), 1));
        CHECK(there.get() == round_count * (round_count - 1) / 2);
        CHECK(back.get() == round_count * (round_count + 1) / 2);
    }
    CHECK(ended_count.load() == 2 * round_count);
}
