// Generators, with and without awaits.
#include "tests/support/catch.hpp"
#include "tests/support/run_on.hpp"
#include "tests/support/scripted_kernel.hpp"

#include <kevring/runtime/async_generator.hpp>
#include <kevring/runtime/generator.hpp>
#include <kevring/runtime/when.hpp>

#include <ranges>
#include <stdexcept>
#include <vector>

using kevring::async_generator;
using kevring::generator;
using kevring::result;
using kevring::ring;
using kevring::task;
using kevring::task_scope;
using kevring::yield;
using namespace std::chrono_literals;

namespace {

generator<int> squares(int count) {
    for (int i = 0; i < count; ++i) co_yield i* i;
    if (count < 0) throw std::runtime_error("negative");
}

async_generator<int> counting(int count, int& destroyed) {
    struct note {
        int& count;
        explicit note(int& count) noexcept : count(count) {}
        note(const note&) = delete;
        note& operator=(const note&) = delete;
        ~note() { ++count; }
    };
    const note at_end(destroyed);
    for (int i = 0; i < count; ++i) {
        if (i % 3 == 0) co_await yield();
        co_yield i;
    }
    if (count < 0) throw std::runtime_error("negative");
}

}  // namespace

TEST_CASE("a generator is a range", "[runtime][generator]") {
    std::vector<int> all;
    for (const int square : squares(5)) all.push_back(square);
    CHECK(all == std::vector<int>{0, 1, 4, 9, 16});
    for (const int square : squares(1'000'000) | std::views::take(3)) all.push_back(square);
    CHECK(all.size() == 8);
    CHECK_THROWS_AS(squares(-1).begin(), std::runtime_error);
    auto none = squares(0);
    CHECK(none.begin() == none.end());
    generator<int> moved = squares(3);
    const generator<int> target = std::move(moved);
    static_assert(std::ranges::input_range<generator<int>>);
    static_assert(std::ranges::view<generator<int>>);
}

TEST_CASE("an asynchronous generator gives its items one by one", "[runtime][generator]") {
    ring loop;
    int destroyed = 0;
    auto body = [&]() -> task<void> {
        auto numbers = counting(10, destroyed);
        int expected = 0;
        while (const auto number = co_await numbers.next()) CHECK(*number == expected++);
        CHECK(expected == 10);
        CHECK(destroyed == 1);
        const auto again = co_await numbers.next();
        CHECK(!again.has_value());
        {
            auto unfinished = counting(10, destroyed);
            static_cast<void>(co_await unfinished.next());
            CHECK(destroyed == 1);
        }
        CHECK(destroyed == 2);  // its locals, although it had not ended
        { auto never = counting(10, destroyed); }
        CHECK(destroyed == 2);
        auto failing = counting(-1, destroyed);
        bool threw = false;
        try {
            static_cast<void>(co_await failing.next());
        } catch (const std::runtime_error&) {
            threw = true;
        }
        CHECK(threw);
        // A million items that need no wait use no stack.
        int count = 0;
        auto many = [](int items) -> async_generator<int> {
            for (int i = 0; i < items; ++i) co_yield i;
        }(1'000'000);
        while (const auto number = co_await many.next()) count += *number >= 0 ? 1 : 0;
        CHECK(count == 1'000'000);
    };
    run_on(loop, body);
}

TEST_CASE("a stop and a deadline reach the awaits of a generator, and a race loses no item",
          "[runtime][generator]") {
    scripted_kernel script;
    script.clock_ns = 1'000'000'000;
    ring loop({}, script);
    auto ticks = []() -> async_generator<int> {
        for (int i = 0;; ++i) {
            const auto slept = co_await kevring::sleep_for(10ms);
            co_yield slept ? i : -i;
        }
    };
    auto body = [&]() -> task<void> {
        auto source = ticks();
        const auto first = co_await source.next();
        CHECK(first == 0);
        const auto late = co_await kevring::with_timeout(source.next(), 1ms);
        CHECK(late == -1);  // the body has seen the deadline
        const auto second = co_await source.next();
        CHECK(second == 2);
        auto outcome = co_await kevring::when_any(source.next(), kevring::sleep_for(1ms));
        CHECK(outcome.index == 1);
        const auto kept = co_await source.next();
        CHECK(kept == -3);  // computed by the await that lost
        const auto next = co_await source.next();
        CHECK(next == 4);
    };
    run_on(loop, body);
}
