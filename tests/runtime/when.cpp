// when_any, when_all and the limits: which result decides, and what happens to the others.
#include "tests/support/catch.hpp"
#include "tests/support/loopback_listener.hpp"
#include "tests/support/received.hpp"
#include "tests/support/run_on.hpp"
#include "tests/support/socket_pair.hpp"

#include <kevring/runtime/deadline.hpp>
#include <kevring/runtime/operations/accept.hpp>
#include <kevring/runtime/operations/poll.hpp>
#include <kevring/runtime/operations/receive.hpp>
#include <kevring/runtime/result.hpp>
#include <kevring/runtime/sleep.hpp>
#include <kevring/runtime/task_scope.hpp>
#include <kevring/runtime/when.hpp>

#include <array>
#include <memory>
#include <ranges>
#include <stdexcept>
#include <string>
#include <vector>

#include <poll.h>
#include <sys/eventfd.h>

using kevring::result;
using kevring::ring;
using kevring::sleep_for;
using kevring::task;
using kevring::task_scope;
using kevring::when_all;
using kevring::when_any;
using namespace std::chrono_literals;

namespace {

enum class begin { immediately, later };

task<int> throwing(begin when, const char* text = "failure") {
    if (when == begin::later) co_await kevring::yield();
    throw std::runtime_error(text);
}

task<int> value_after_yield(int value) {
    co_await kevring::yield();
    co_return value;
}

// Reports the stop of its scope as a value, as operations do.
task<result<void>> stopped_value() { co_return co_await sleep_for(1h); }

// Reports it as an exception, as value_or_throw() does.
task<void> stopped_exception() { kevring::value_or_throw(co_await sleep_for(1h), "sleep"); }

// Reports it as an exception of result<T>::value().
task<void> stopped_access() {
    const auto slept = co_await sleep_for(1h);
    result<int> number = 1;
    if (!slept) number = tl::unexpected<std::error_code>(slept.error());
    static_cast<void>(number.value());
}

template <class Awaitable>
task<std::string> text_of_failure(Awaitable awaitable) {
    try {
        static_cast<void>(co_await std::move(awaitable));
    } catch (const std::runtime_error& failure) {
        co_return failure.what();
    }
    co_return std::string("no exception");
}

}  // namespace

TEST_CASE("an exception before there is a winner is thrown by when_any", "[runtime][when]") {
    ring loop;
    const begin when = GENERATE(begin::immediately, begin::later);
    auto body = [&]() -> task<void> {
        const std::string first = co_await text_of_failure(when_any(throwing(when), sleep_for(1h)));
        CHECK(first == "failure");
        const std::string second =
            co_await text_of_failure(when_any(sleep_for(1h), throwing(when)));
        CHECK(second == "failure");
        const std::string text_among_others = co_await text_of_failure(
            when_any(stopped_value(), stopped_exception(), throwing(when), stopped_access()));
        CHECK(text_among_others == "failure");
        std::vector<task<int>> list;
        list.push_back(throwing(when));
        list.push_back(throwing(begin::later, "another"));
        const std::string ranged = co_await text_of_failure(when_any(std::move(list)));
        CHECK(ranged == "failure");
        const auto slept = co_await sleep_for(1us);  // the stop did not leave the race
        CHECK(slept.has_value());
    };
    run_on(loop, body);
}

TEST_CASE("an exception after there is a winner is dropped", "[runtime][when]") {
    ring loop;
    auto body = [&]() -> task<void> {
        const auto first = co_await when_any(value_after_yield(7), stopped_exception());
        CHECK(first.index == 0);
        CHECK(std::get<0>(first.values) == 7);
        CHECK(!first.error);
        const auto second = co_await when_any(stopped_exception(), value_after_yield(8));
        CHECK(second.index == 1);
    };
    run_on(loop, body);
}

TEST_CASE("a stop of the enclosing scope is the result of when_any only where all report it",
          "[runtime][when]") {
    ring loop;
    const bool by_deadline = GENERATE(true, false);
    const std::errc code = by_deadline ? std::errc::timed_out : std::errc::operation_canceled;
    auto farewell = []() -> task<int> {
        const auto slept = co_await sleep_for(1h);
        co_return slept ? 0 : 42;
    };
    auto late_failure = []() -> task<void> {
        const auto slept = co_await sleep_for(1h);
        if (!slept) throw std::runtime_error("cleanup failed");
    };
    auto inside = [&]() -> task<void> {
        const auto all = co_await when_any(sleep_for(1h), stopped_value(), sleep_for(1h));
        CHECK(all.error == code);
        REQUIRE(all.index < 3);
        CHECK(std::get<0>(all.values)->error() == code);

        const auto without_values = co_await when_any(
            [](int) -> task<void> { static_cast<void>(co_await sleep_for(1h)); }(0), sleep_for(1h));
        CHECK(without_values.error == code);

        const auto real = co_await when_any(sleep_for(1h), farewell(), stopped_exception());
        CHECK(real.index == 1);
        CHECK(std::get<1>(real.values) == 42);
        CHECK(!real.error);

        const std::string failure =
            co_await text_of_failure(when_any(stopped_exception(), sleep_for(1h), late_failure()));
        CHECK(failure == "cleanup failed");

        const auto nested = co_await when_any(when_any(sleep_for(1h), sleep_for(2h)),
                                              when_all(sleep_for(1h), sleep_for(2h)));
        CHECK(nested.error == code);

        std::vector<task<result<void>>> list;
        list.push_back(stopped_value());
        list.push_back(stopped_value());
        const auto ranged = co_await when_any(std::move(list));
        CHECK(ranged.error == code);
        CHECK(ranged.values[0]->error() == code);
    };
    auto body = [&]() -> task<void> {
        kevring::cancel_scope& outer = co_await kevring::current_scope();
        task_scope scope(loop, &outer);
        scope.spawn(inside());
        scope.scope().request_stop(by_deadline ? kevring::stop_cause::deadline
                                               : kevring::stop_cause::stopped);
        co_await scope.join();
    };
    run_on(loop, body);
}

TEST_CASE("a limit of its own that has passed is a result of a loser's sibling",
          "[runtime][when]") {
    ring loop;
    auto body = [&]() -> task<void> {
        const auto first =
            co_await when_any(kevring::with_timeout(sleep_for(1h), 1ms), sleep_for(2h));
        CHECK(first.index == 0);
        CHECK(std::get<0>(first.values)->error() == std::errc::timed_out);
        CHECK(!first.error);
    };
    run_on(loop, body);
}

TEST_CASE("an exception that only reports the stop does not replace another",
          "[runtime][when][task_scope]") {
    ring loop;
    // Ends after the others have reported the stop.
    auto slow_failure = []() -> task<void> {
        const auto slept = co_await sleep_for(1h);
        co_await kevring::yield();
        if (!slept) throw std::runtime_error("failure");
    };
    auto body = [&]() -> task<void> {
        auto inside = [&](task_scope& tasks) -> task<void> {
            tasks.spawn(stopped_exception());
            tasks.spawn(stopped_access());
            tasks.spawn(slow_failure());
            tasks.request_stop();
            co_return;
        };
        const std::string scope = co_await text_of_failure(kevring::in_scope(inside));
        CHECK(scope == "failure");

        auto all = [&](task_scope& tasks) -> task<void> {
            tasks.request_stop();
            co_await when_all(stopped_exception(), slow_failure());
        };
        const std::string both = co_await text_of_failure(kevring::in_scope(all));
        CHECK(both == "failure");

        auto any = [&](task_scope& tasks) -> task<void> {
            tasks.request_stop();
            co_await when_any(stopped_exception(), slow_failure());
        };
        const std::string one = co_await text_of_failure(kevring::in_scope(any));
        CHECK(one == "failure");

        // Alone it is the result.
        auto alone = [&](task_scope& tasks) -> task<void> {
            tasks.request_stop();
            co_await stopped_exception();
        };
        bool canceled = false;
        try {
            co_await kevring::in_scope(alone);
        } catch (const std::system_error& failure) {
            canceled = failure.code() == std::errc::operation_canceled;
        }
        CHECK(canceled);
    };
    run_on(loop, body);
}

TEST_CASE("when_all throws the first exception whatever the others report", "[runtime][when]") {
    ring loop;
    const begin when = GENERATE(begin::immediately, begin::later);
    auto body = [&]() -> task<void> {
        const std::string first =
            co_await text_of_failure(when_all(throwing(when), stopped_value()));
        CHECK(first == "failure");
        const std::string second =
            co_await text_of_failure(when_all(stopped_exception(), throwing(when)));
        CHECK(second == "failure");
    };
    run_on(loop, body);
}

TEST_CASE("when_any and when_all accept ranges of awaitables", "[runtime][when]") {
    ring loop;
    int number = 5;
    auto reference = [&]() -> task<int&> { co_return number; };
    auto body = [&]() -> task<void> {
        std::vector<kevring::sleep_operation> sleeps;
        for (const auto time : {1h, 2h}) sleeps.push_back(sleep_for(time));
        sleeps.push_back(sleep_for(1ms));
        const auto first = co_await when_any(std::move(sleeps));
        CHECK(first.index == 2);
        REQUIRE(first.values.size() == 3);
        CHECK(first.values[0]->error() == std::errc::operation_canceled);

        auto squares = std::views::iota(0, 20) |
                       std::views::transform([](int i) { return value_after_yield(i * i); });
        const std::vector<int> results = co_await when_all(squares);
        REQUIRE(results.size() == 20);
        CHECK(results[19] == 361);

        std::array<task<int>, 2> pair{value_after_yield(1), value_after_yield(2)};
        const std::vector<int> two = co_await when_all(std::move(pair));
        CHECK(two == std::vector<int>{1, 2});

        std::vector<task<int>> none;
        const std::vector<int> nothing = co_await when_all(std::move(none));
        CHECK(nothing.empty());
        bool refused = false;
        try {
            static_cast<void>(co_await when_any(std::vector<task<int>>()));
        } catch (const std::invalid_argument&) {
            refused = true;
        }
        CHECK(refused);

        auto [same, slept] = co_await when_all(reference(), sleep_for(1us));
        CHECK(&same.get() == &number);
        CHECK(slept.has_value());
    };
    run_on(loop, body);
}

TEST_CASE("the items of a stream that loses a race are returned by its next wait",
          "[runtime][when][multishot]") {
    ring loop;
    socket_pair sockets;
    auto body = [&]() -> task<void> {
        kevring::receive_stream stream(loop, sockets.local());
        std::string all;
        std::size_t lost = 0;
        const auto collect = [&](auto& outcome) {
            auto& received = std::get<0>(outcome.values);
            if (received && *received) all += text_of(**received);
            if (outcome.index != 0) ++lost;
        };
        for (int round = 0; round < 300; ++round) {
            sockets.send_from_peer("x");
            for (int i = 0; i < round % 4; ++i) co_await kevring::yield();
            if (round % 3 == 0) {
                auto outcome = co_await when_any(stream.next(), value_after_yield(1));
                collect(outcome);
            } else if (round % 3 == 1) {
                auto outcome =
                    co_await when_any(kevring::with_timeout(stream.next(), 1us), sleep_for(0s));
                collect(outcome);
            } else {
                auto received = co_await kevring::with_timeout(stream.next(), 1us);
                if (received)
                    all += text_of(*received);
                else
                    CHECK(received.error() == std::errc::timed_out);
            }
        }
        sockets.close_peer();
        all += co_await all_of(stream);
        CHECK(all == std::string(300, 'x'));
        CHECK(lost > 0);
    };
    run_on(loop, body);
}

// The item is there before the race begins, and the race is decided before the stream is asked.
TEST_CASE("a race that is decided does not take what has arrived already",
          "[runtime][when][multishot]") {
    ring loop;
    socket_pair sockets;
    auto immediate = []() -> task<int> { co_return 1; };
    auto body = [&]() -> task<void> {
        kevring::receive_stream stream(loop, sockets.local());
        for (int i = 0; i < 2; ++i) {  // the first receive of a stream is for one buffer
            sockets.send_from_peer("a");
            const auto first = co_await stream.next();
            CHECK(text_of(first.value()) == "a");
        }
        sockets.send_from_peer("b");
        for (int i = 0; i < 5; ++i) co_await kevring::yield();
        const auto outcome = co_await when_any(immediate(), stream.next());
        CHECK(outcome.index == 0);
        CHECK(!std::get<1>(outcome.values).has_value());
        const auto second = co_await stream.next();
        CHECK(text_of(second.value()) == "b");
        // A loser with nothing to leave reports its stop.
        const auto stopped = co_await when_any(immediate(), stream.next());
        REQUIRE(std::get<1>(stopped.values).has_value());
        CHECK(std::get<1>(stopped.values)->error() == std::errc::operation_canceled);
    };
    run_on(loop, body);
}

TEST_CASE("the connections and edges of a loser are returned by the next wait",
          "[runtime][when][multishot]") {
    ring loop;
    const loopback_listener listening;
    auto immediate = []() -> task<int> { co_return 1; };
    auto body = [&]() -> task<void> {
        kevring::accept_stream stream(loop, listening.native());
        std::vector<kevring::fd> ends;
        std::size_t accepted = 0;
        for (int round = 0; round < 40; ++round) {
            ends.push_back(listening.dial());
            for (int i = 0; i < round % 5; ++i) co_await kevring::yield();
            auto outcome = co_await when_any(stream.next(), immediate());
            if (auto& given = std::get<0>(outcome.values); given && *given) {
                ends.push_back(std::move(**given));
                ++accepted;
            }
        }
        while (accepted < 40) {
            auto given = co_await stream.next();
            REQUIRE(given.has_value());
            ends.push_back(std::move(*given));
            ++accepted;
        }

        const kevring::fd event(::eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK));
        kevring::poll_stream edges(loop, event, POLLIN);
        auto both = co_await when_any(immediate(), edges.next());
        CHECK(both.index == 0);
        const auto edge = co_await edges.next();
        CHECK((edge.value() & POLLIN) != 0);
    };
    run_on(loop, body);
}

// A failure that a loser would have reported is not lost either.
TEST_CASE("the failure of a stream that loses a race is reported by its next wait",
          "[runtime][when][multishot]") {
    ring loop;
    // Ends when the kernel has answered and the stream has not resumed yet, or before, or after.
    auto after = [](int yields) -> task<int> {
        for (int i = 0; i < yields; ++i) co_await kevring::yield();
        co_return 1;
    };
    auto body = [&]() -> task<void> {
        for (int yields = 0; yields < 6; ++yields) {
            kevring::poll_stream edges(loop, kevring::fd_ref(1'000'000), POLLIN);
            auto raced = co_await when_any(edges.next(), after(yields));
            if (raced.index == 1) {
                const auto failed = co_await edges.next();
                CHECK(failed.error() == std::errc::bad_file_descriptor);
            } else {
                CHECK(std::get<0>(raced.values)->error() == std::errc::bad_file_descriptor);
            }
        }
    };
    run_on(loop, body);
}

namespace {

task<int> await_depth(int levels, bool suspends) {
    if (levels == 0) {
        if (suspends) co_await kevring::yield();
        co_return 0;
    }
    const int below = co_await await_depth(levels - 1, suspends);
    co_return below + 1;
}

task<void> spawn_depth(task_scope& scope, int levels, bool suspends, int& ended) {
    if (suspends) co_await kevring::yield();
    ++ended;
    if (levels > 0) scope.spawn(spawn_depth(scope, levels - 1, suspends, ended));
}

task<void> scope_depth(ring& loop, int levels) {
    if (levels == 0) {
        co_await kevring::yield();
        co_return;
    }
    kevring::cancel_scope& outer = co_await kevring::current_scope();
    task_scope inner(loop, &outer);
    inner.spawn(scope_depth(loop, levels - 1));
    co_await inner.join();
}

}  // namespace

TEST_CASE("a chain of awaits needs no more stack the longer it is", "[runtime][task][depth]") {
    ring loop;
    const bool suspends = GENERATE(false, true);
    auto body = [&]() -> task<void> {
        const int depth = co_await await_depth(400'000, suspends);
        CHECK(depth == 400'000);
    };
    run_on(loop, body);
}

TEST_CASE("a chain of spawns needs no more stack the longer it is",
          "[runtime][task_scope][depth]") {
    ring loop;
    const bool suspends = GENERATE(false, true);
    auto body = [&]() -> task<void> {
        int ended = 0;
        kevring::cancel_scope& outer = co_await kevring::current_scope();
        task_scope scope(loop, &outer);
        scope.spawn(spawn_depth(scope, 400'000, suspends, ended));
        co_await scope.join();
        CHECK(ended == 400'001);
    };
    run_on(loop, body);
}

TEST_CASE("a chain of scopes needs no more stack the longer it is",
          "[runtime][task_scope][depth]") {
    ring loop;
    auto body = [&]() -> task<void> { co_await scope_depth(loop, 100'000); };
    run_on(loop, body);
}

TEST_CASE("a stop reaches the innermost of many scopes", "[runtime][task_scope][depth]") {
    ring loop;
    auto body = [&]() -> task<void> {
        kevring::cancel_scope& outer = co_await kevring::current_scope();
        std::vector<std::unique_ptr<kevring::cancel_scope>> scopes;
        scopes.push_back(std::make_unique<kevring::cancel_scope>(loop, &outer));
        for (int i = 0; i < 400'000; ++i)
            scopes.push_back(std::make_unique<kevring::cancel_scope>(loop, scopes.back().get()));
        scopes.front()->request_stop(kevring::stop_cause::deadline);
        CHECK(scopes.back()->cause() == kevring::stop_cause::deadline);
        while (!scopes.empty()) scopes.pop_back();
    };
    run_on(loop, body);
}
