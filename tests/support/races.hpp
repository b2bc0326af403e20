// races.hpp: the next item of a stream in races that it wins and loses.
#pragma once

#include "tests/support/catch.hpp"

#include <kevring/runtime/deadline.hpp>
#include <kevring/runtime/sleep.hpp>
#include <kevring/runtime/task.hpp>
#include <kevring/runtime/when.hpp>

#include <chrono>
#include <tuple>
#include <utility>
#include <vector>

inline kevring::task<int> after_yields(unsigned count) {
    while (count-- > 0) co_await kevring::yield();
    co_return 0;
}

// Calls make_item(number) for each number below `item_count`, and lets every next() race: against
// tasks that end at once or a little later, in both orders, and against deadlines. The rest is taken
// by next() alone. Returns the numbers that number_of(item) gives, in the order of arrival: a stream
// that loses no item gives each once, and all in order.
template <class Make, class Next, class NumberOf>
kevring::task<std::vector<int>> numbers_of_races(int item_count, Make make_item, Next next,
                                                 NumberOf number_of) {
    std::vector<int> numbers;
    auto keep = [&](auto& item) {
        if (item.has_value()) numbers.push_back(number_of(*item));
    };
    for (int i = 0; i < item_count; ++i) {
        make_item(i);
        const auto yields = static_cast<unsigned>(i / 3 % 4);
        if (i % 3 == 0) {
            auto raced = co_await kevring::when_any(next(), after_yields(yields));
            auto& mine = std::get<0>(raced.values);
            if (mine) keep(*mine);
        } else if (i % 3 == 1) {
            auto raced = co_await kevring::when_any(after_yields(yields), next());
            auto& mine = std::get<1>(raced.values);
            if (mine) keep(*mine);
        } else {
            auto limited =
                co_await kevring::with_timeout(next(), std::chrono::microseconds(yields));
            keep(limited);
        }
    }
    while (numbers.size() < static_cast<std::size_t>(item_count)) {
        auto item = co_await next();
        REQUIRE(item.has_value());
        numbers.push_back(number_of(*item));
    }
    // Nothing is there twice.
    auto none = co_await kevring::with_timeout(next(), std::chrono::milliseconds(1));
    CHECK_FALSE(none.has_value());
    co_return numbers;
}

inline std::vector<int> numbers_up_to(int count) {
    std::vector<int> numbers;
    for (int i = 0; i < count; ++i) numbers.push_back(i);
    return numbers;
}
