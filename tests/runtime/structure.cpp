// Concurrent tasks: scopes, deadlines, stops, and the propagation of failures.
#include "tests/support/catch.hpp"
#include "tests/support/run_on.hpp"
#include "tests/support/scripted_kernel.hpp"

#include <kevring/runtime/deadline.hpp>
#include <kevring/runtime/operations/nop.hpp>
#include <kevring/runtime/task_scope.hpp>
#include <kevring/runtime/when.hpp>

#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using kevring::ring;
using kevring::task;
using kevring::task_scope;
using namespace std::chrono_literals;

namespace {

task<void> sleep_then(std::chrono::nanoseconds time, std::vector<std::string>& said,
                      std::string what) {
    const auto slept = co_await kevring::sleep_for(time);
    said.push_back(slept ? what : what + " stopped");
}

task<void> fail_after(std::chrono::nanoseconds time, const char* what) {
    const auto slept = co_await kevring::sleep_for(time);
    if (slept) throw std::runtime_error(what);
}

}  // namespace

TEST_CASE("a scope ends after its tasks, and the first failure stops the others",
          "[runtime][task_scope]") {
    ring loop;
    std::vector<std::string> said;
    auto body = [&]() -> task<void> {
        auto inside = [&](task_scope& tasks) -> task<void> {
            tasks.spawn(sleep_then(1h, said, "sleeper"));
            tasks.spawn(fail_after(1ms, "first"));
            tasks.spawn(fail_after(2ms, "second"));
            co_return;
        };
        std::string caught;
        try {
            co_await kevring::in_scope(inside);
        } catch (const std::runtime_error& failure) {
            caught = failure.what();
        }
        CHECK(caught == "first");
    };
    run_on(loop, body);
    CHECK(said == std::vector<std::string>{"sleeper stopped"});
}

TEST_CASE("a body that throws stops its tasks, and its exception reaches the awaiting caller",
          "[runtime][task_scope]") {
    ring loop;
    std::vector<std::string> said;
    auto body = [&]() -> task<void> {
        auto inside = [&](task_scope& tasks) -> task<void> {
            tasks.spawn(sleep_then(1h, said, "sleeper"));
            throw std::logic_error("body");
            co_return;
        };
        bool caught = false;
        try {
            co_await kevring::in_scope(inside);
        } catch (const std::logic_error&) {
            caught = true;
        }
        CHECK(caught);
    };
    run_on(loop, body);
    CHECK(said == std::vector<std::string>{"sleeper stopped"});
}

// The body waits forever: without a stop of the body the failure would reach no caller.
TEST_CASE("a task that fails stops the body of its scope", "[runtime][task_scope]") {
    ring loop;
    std::error_code body_error;
    auto body = [&]() -> task<void> {
        auto inside = [&](task_scope& tasks) -> task<void> {
            tasks.spawn(fail_after(1ms, "child"));
            const auto slept = co_await kevring::sleep_for(1h);
            if (!slept) body_error = slept.error();
        };
        std::string caught;
        try {
            co_await kevring::in_scope(inside);
        } catch (const std::runtime_error& failure) {
            caught = failure.what();
        }
        CHECK(caught == "child");
        const auto slept = co_await kevring::sleep_for(1us);  // the stop was the scope's own
        CHECK(slept.has_value());
    };
    run_on(loop, body);
    CHECK(body_error == std::errc::operation_canceled);
}

TEST_CASE("the latest representable time is no deadline", "[runtime][deadline]") {
    ring loop;
    auto body = [&]() -> task<void> {
        const auto limit = co_await kevring::until(kevring::steady_time::max());
        const auto slept = co_await kevring::sleep_for(1ms);
        CHECK(slept.has_value());
        CHECK_FALSE(limit.expired());
    };
    run_on(loop, body);
}

TEST_CASE("the inner of two deadlines ends first, and the outer still holds",
          "[runtime][deadline]") {
    scripted_kernel script;
    script.clock_ns = 1'000'000'000;  // or the outer one might be over by now on a busy machine
    ring loop({}, script);
    auto body = [&]() -> task<void> {
        const auto outer = co_await kevring::within(30ms);
        {
            const auto inner = co_await kevring::within(1ms);
            const auto slept = co_await kevring::sleep_for(1h);
            CHECK(slept.error() == std::errc::timed_out);
            CHECK(inner.expired());
        }
        CHECK_FALSE(outer.expired());
        const auto again = co_await kevring::sleep_for(1h);
        CHECK(again.error() == std::errc::timed_out);
        CHECK(outer.expired());
    };
    run_on(loop, body);
}

TEST_CASE("an outer deadline ends awaits under a longer inner one", "[runtime][deadline]") {
    ring loop;
    auto below = []() -> task<std::error_code> {
        const auto inner = co_await kevring::within(1h);
        const auto slept = co_await kevring::sleep_for(2h);
        co_return slept ? std::error_code() : slept.error();
    };
    auto body = [&]() -> task<void> {
        const auto error = co_await kevring::with_timeout(below(), 1ms);
        CHECK(error == std::errc::timed_out);
    };
    run_on(loop, body);
}

TEST_CASE("progress can earn more time", "[runtime][deadline]") {
    ring loop;
    auto body = [&]() -> task<void> {
        auto limit = co_await kevring::within(1h);
        limit.expires_after(1ms);
        const auto slept = co_await kevring::sleep_for(1h);
        CHECK(slept.error() == std::errc::timed_out);
    };
    run_on(loop, body);
}

TEST_CASE("a token that was stopped before, or is stopped by another thread, ends the await",
          "[runtime][stop][threads]") {
    for (const bool before : {true, false}) {
        CAPTURE(before);
        ring loop;
        std::stop_source stop;
        if (before) stop.request_stop();
        auto body = [&]() -> task<void> {
            std::jthread other;
            if (!before) other = std::jthread([&] { stop.request_stop(); });
            const auto slept =
                co_await kevring::with_stop(kevring::sleep_for(1h), stop.get_token());
            CHECK(slept.error() == std::errc::operation_canceled);
        };
        run_on(loop, body);
    }
}

// The stop and the end of the await cross on purpose, many times.
TEST_CASE("a stop from another thread may come at any moment", "[runtime][stop][threads]") {
    ring loop;
    auto body = [&]() -> task<void> {
        for (int i = 0; i < 300; ++i) {
            std::stop_source stop;
            std::jthread other([&] { stop.request_stop(); });
            const auto slept =
                co_await kevring::with_stop(kevring::sleep_for(10us), stop.get_token());
            CHECK((slept.has_value() || slept.error() == std::errc::operation_canceled));
        }
    };
    run_on(loop, body);
}

TEST_CASE("when_all throws the first failure after all have ended", "[runtime][when]") {
    ring loop;
    std::vector<std::string> said;
    auto body = [&]() -> task<void> {
        std::string caught;
        try {
            co_await kevring::when_all(sleep_then(1h, said, "a"), fail_after(1ms, "failed"));
        } catch (const std::runtime_error& failure) {
            caught = failure.what();
        }
        CHECK(caught == "failed");
        CHECK(said == std::vector<std::string>{"a stopped"});
    };
    run_on(loop, body);
}

TEST_CASE("when_any gives the first and waits for the losers", "[runtime][when]") {
    ring loop;
    std::vector<std::string> said;
    auto body = [&]() -> task<void> {
        const auto first = co_await kevring::when_any(
            sleep_then(1h, said, "a"), sleep_then(1ms, said, "b"), sleep_then(2h, said, "c"));
        CHECK(first.index == 1);
        CHECK(said == std::vector<std::string>{"b", "a stopped", "c stopped"});
    };
    run_on(loop, body);
}

TEST_CASE("when_any carries things that only move", "[runtime][when]") {
    ring loop;
    auto owner = [](int number) -> task<std::unique_ptr<int>> {
        co_await kevring::yield();
        co_return std::make_unique<int>(number);
    };
    auto body = [&]() -> task<void> {
        auto first = co_await kevring::when_any(owner(1), owner(2));
        CHECK(first.index == 0);
        CHECK(**std::get<0>(first.values) == 1);
    };
    run_on(loop, body);
}

TEST_CASE("a list of tasks is awaited in order", "[runtime][when]") {
    ring loop;
    auto square = [](int number) -> task<int> {
        co_await kevring::yield();
        co_return number* number;
    };
    auto body = [&]() -> task<void> {
        std::vector<task<int>> tasks;
        for (int i = 0; i < 100; ++i) tasks.push_back(square(i));
        const std::vector<int> squares = co_await kevring::when_all(std::move(tasks));
        for (int i = 0; i < 100; ++i) CHECK(squares[i] == i * i);
    };
    run_on(loop, body);
}

TEST_CASE("tasks carry references and things that only move", "[runtime][task]") {
    ring loop;
    int number = 7;
    auto reference = [&]() -> task<int&> { co_return number; };
    auto owner = []() -> task<std::unique_ptr<int>> { co_return std::make_unique<int>(8); };
    auto body = [&]() -> task<void> {
        int& same = co_await reference();
        CHECK(&same == &number);
        const auto owned = co_await owner();
        CHECK(*owned == 8);
    };
    run_on(loop, body);
}

TEST_CASE("a task that is never awaited costs nothing and runs nothing", "[runtime][task]") {
    bool ran = false;
    auto body = [&]() -> task<void> {
        ran = true;
        co_return;
    };
    { const task<void> unused = body(); }
    CHECK_FALSE(ran);
}
