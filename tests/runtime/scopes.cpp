// Scopes for servers: supervision, limits, and shielded cleanup.
#include "tests/support/catch.hpp"
#include "tests/support/run_on.hpp"
#include "tests/support/scripted_kernel.hpp"

#include <kevring/runtime/shield.hpp>
#include <kevring/runtime/supervisor_scope.hpp>
#include <kevring/runtime/when.hpp>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

using kevring::result;
using kevring::ring;
using kevring::task;
using kevring::task_scope;
using kevring::yield;
using namespace std::chrono_literals;

TEST_CASE("a supervisor reports a failure and the others continue", "[runtime][supervisor]") {
    ring loop;
    std::vector<std::string> reported;
    std::vector<int> finished;
    auto report = [&](const kevring::task_failure& failure) {
        reported.push_back(std::string(failure.scope_name) + '/' + std::string(failure.task_name) +
                           ": " + failure.message());
    };
    auto work = [&](int number, int yields) -> task<void> {
        for (int i = 0; i < yields; ++i) co_await yield();
        if (number % 2 == 0) throw std::runtime_error("even " + std::to_string(number));
        finished.push_back(number);
    };
    auto odd = []() -> task<void> {
        co_await yield();
        throw 7;
    };
    auto body = [&]() -> task<void> {
        auto inside = [&](kevring::supervisor_scope& scope) -> task<void> {
            scope.spawn(work(1, 5), "one");
            scope.spawn(work(2, 0), "two");
            scope.spawn(work(3, 5), "three");
            scope.spawn(work(4, 3), "four");
            scope.spawn(odd());
            co_await yield();
            CHECK(scope.active_count() > 0);
            CHECK_FALSE(scope.stop_requested());
        };
        co_await kevring::in_scope(inside, report, "clients");
    };
    run_on(loop, body);
    CHECK(finished == std::vector<int>{1, 3});
    CHECK(reported ==
          std::vector<std::string>{"clients/two: even 2",
                                   "clients/task: an exception that is no std::exception",
                                   "clients/four: even 4"});
}

TEST_CASE("a supervisor is stopped by its own failures only", "[runtime][supervisor]") {
    ring loop;
    int reported = 0;
    auto report = [&](const kevring::task_failure&) { ++reported; };
    auto fatal_report = [&](const kevring::task_failure&) { throw std::logic_error("report"); };
    auto stopped = []() -> task<void> {
        kevring::value_or_throw(co_await kevring::sleep_for(1h), "sleep");
    };
    auto failing = []() -> task<void> {
        co_await yield();
        throw std::runtime_error("child");
    };
    auto body = [&]() -> task<void> {
        auto throwing_body = [&](kevring::supervisor_scope& scope) -> task<void> {
            scope.spawn(stopped());
            co_await yield();
            throw std::runtime_error("body");
        };
        std::string caught;
        try {
            co_await kevring::in_scope(throwing_body, report);
        } catch (const std::runtime_error& failure) {
            caught = failure.what();
        }
        CHECK(caught == "body");
        CHECK(reported == 0);  // the stop of the child is no failure of its own
        auto reporting_body = [&](kevring::supervisor_scope& scope) -> task<void> {
            scope.spawn(stopped());
            scope.spawn(failing());
            co_return;
        };
        caught.clear();
        try {
            co_await kevring::in_scope(reporting_body, fatal_report);
        } catch (const std::logic_error& failure) {
            caught = failure.what();
        }
        CHECK(caught == "report");
        // The enclosing scope stops it.
        auto waiting_body = [&](kevring::supervisor_scope& scope) -> task<void> {
            scope.spawn(stopped());
            static_cast<void>(co_await kevring::sleep_for(1h));
        };
        co_await kevring::with_timeout(kevring::in_scope(waiting_body, report), 1us);
        CHECK(reported == 0);
    };
    run_on(loop, body);
}

TEST_CASE("a limited scope starts a task when a place is free", "[runtime][supervisor]") {
    ring loop;
    int active = 0;
    int active_max = 0;
    int ended = 0;
    auto work = [&]() -> task<void> {
        active_max = std::max(active_max, ++active);
        co_await yield();
        co_await yield();
        --active;
        ++ended;
    };
    auto forever = []() -> task<void> { static_cast<void>(co_await kevring::sleep_for(1h)); };
    auto body = [&]() -> task<void> {
        kevring::limited_task_scope scope(loop, 3);
        for (int i = 0; i < 20; ++i) {
            const auto spawned = co_await scope.spawn(work());
            CHECK(spawned.has_value());
            CHECK(scope.active_count() <= 4);
        }
        co_await scope.join();
        CHECK(active_max == 3);
        CHECK(ended == 20);
        CHECK(scope.free_count() == 3);
        for (int i = 0; i < 3; ++i) {
            task<void> child = forever();
            CHECK(scope.try_spawn(child));
        }
        task<void> refused = work();
        CHECK_FALSE(scope.try_spawn(refused));
        const auto late = co_await kevring::with_timeout(scope.spawn(std::move(refused)), 1us);
        CHECK(late.error() == std::errc::timed_out);
        CHECK(ended == 20);
        scope.request_stop();
        co_await scope.join();
    };
    run_on(loop, body);
}

TEST_CASE("a shielded await outlives a stop, for its own time only", "[runtime][shield]") {
    scripted_kernel script;
    script.clock_ns = 1'000'000'000;
    ring loop({}, script);
    auto cleanup = []() -> task<int> {
        const auto slept = co_await kevring::sleep_for(5ms);
        co_return slept ? 1 : 2;
    };
    auto body = [&]() -> task<void> {
        auto inside = [&]() -> task<void> {
            const auto stopped = co_await kevring::sleep_for(1h);
            CHECK(stopped.error() == std::errc::timed_out);
            const auto again = co_await kevring::sleep_for(1ms);
            CHECK(!again.has_value());
            const int done = co_await kevring::shield(cleanup(), 10ms);
            CHECK(done == 1);
            const int late = co_await kevring::shield(cleanup(), 1ms);
            CHECK(late == 2);
            const auto limited = co_await kevring::shield(kevring::sleep_for(1h), 1ms);
            CHECK(limited.error() == std::errc::timed_out);
        };
        co_await kevring::with_timeout(inside(), 1ms);
    };
    run_on(loop, body);
}

TEST_CASE("a scope shows the names of the tasks that run in it", "[runtime][task_scope]") {
    ring loop;
    auto work = [](int yields) -> task<void> {
        for (int i = 0; i < yields; ++i) co_await yield();
    };
    auto body = [&]() -> task<void> {
        kevring::cancel_scope& outer = co_await kevring::current_scope();
        task_scope scope(loop, &outer, "workers");
        const auto names = [&] {
            std::string all;
            scope.for_each_named([&](std::string_view name) { all += std::string(name) + ' '; });
            return all;
        };
        CHECK(scope.name() == "workers");
        scope.spawn(work(1), "short");
        scope.spawn(work(9));
        scope.spawn(work(9), "long");
        scope.spawn(work(0), "ended");
        CHECK(names() == "short long ");
        for (int i = 0; i < 3; ++i) co_await yield();
        CHECK(names() == "long ");
        co_await scope.join();
        CHECK(names().empty());
    };
    run_on(loop, body);
}
