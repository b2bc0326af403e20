// when.hpp: several awaits at once: all of them, or the first.
#pragma once

#include <kevring/runtime/cancel_scope.hpp>
#include <kevring/runtime/deadline.hpp>
#include <kevring/runtime/task.hpp>
#include <kevring/runtime/task_scope.hpp>

#include <cstddef>
#include <exception>
#include <limits>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace kevring {
namespace detail {

/// What an await gives, as a value that can be kept: std::monostate for nothing.
template <class Awaitable>
using kept = std::conditional_t<std::is_void_v<await_result<Awaitable>>, std::monostate,
                                await_result<Awaitable>>;

inline constexpr std::size_t no_winner = std::numeric_limits<std::size_t>::max();

template <class Awaitable>
task<void> keep(Awaitable awaitable, std::optional<kept<Awaitable>>& value) {
    if constexpr (std::is_void_v<await_result<Awaitable>>) {
        co_await std::move(awaitable);
        value.emplace();
    } else {
        value.emplace(co_await std::move(awaitable));
    }
}

template <class Awaitable>
task<void> race(Awaitable awaitable, std::optional<kept<Awaitable>>& value, std::size_t index,
                std::size_t& winner, task_scope& all) {
    co_await keep<Awaitable>(std::move(awaitable), value);
    if (winner == no_winner) {
        winner = index;
        all.request_stop();
    }
}

}  // namespace detail

/// Awaits all, side by side, and gives what each gave, in order.
///
/// Result     A tuple; std::monostate stands for an await that gives nothing.
/// Errors     The first exception, thrown after the others have been stopped and have ended.
template <class... Awaitables>
    requires(sizeof...(Awaitables) > 0 && (!std::is_reference_v<Awaitables> && ...))
task<std::tuple<detail::kept<Awaitables>...>> when_all(Awaitables... awaitables) {
    cancel_scope& outer = co_await current_scope();
    task_scope all(outer.on(), &outer);
    std::tuple<std::optional<detail::kept<Awaitables>>...> values;
    std::exception_ptr failure;
    try {
        std::apply(
            [&](auto&... value) {
                (all.spawn(detail::keep<Awaitables>(std::move(awaitables), value)), ...);
            },
            values);
    } catch (...) {  // out of memory half-way
        failure = std::current_exception();
        all.request_stop();
    }
    try {
        co_await all.join();
    } catch (...) {
        if (!failure) failure = std::current_exception();
    }
    if (failure) std::rethrow_exception(failure);
    co_return std::apply(
        [](auto&... value) {
            return std::tuple<detail::kept<Awaitables>...>(std::move(*value)...);
        },
        values);
}

/// Awaits all of a list, side by side, and gives what each gave, in order.
///
/// Errors     The first exception, thrown after the others have been stopped and have ended.
template <class T>
task<std::vector<detail::kept<task<T>>>> when_all(std::vector<task<T>> tasks) {
    cancel_scope& outer = co_await current_scope();
    task_scope all(outer.on(), &outer);
    std::vector<std::optional<detail::kept<task<T>>>> values(tasks.size());
    std::exception_ptr failure;
    try {
        for (std::size_t i = 0; i < tasks.size(); ++i)
            all.spawn(detail::keep<task<T>>(std::move(tasks[i]), values[i]));
    } catch (...) {
        failure = std::current_exception();
        all.request_stop();
    }
    try {
        co_await all.join();
    } catch (...) {
        if (!failure) failure = std::current_exception();
    }
    if (failure) std::rethrow_exception(failure);
    std::vector<detail::kept<task<T>>> given;
    given.reserve(values.size());
    for (auto& value : values) given.push_back(std::move(*value));
    co_return given;
}

/// What when_any() gives.
template <class... Values>
struct first_of {
    /// Which of the awaits ended first, counted from 0 in the order of the arguments.
    std::size_t index;
    /// What each gave. That of the first is set; so is that of a loser that reported its stop as a
    /// value, or was done before the stop reached it: what it has read is not thrown away.
    std::tuple<std::optional<Values>...> values;
};

/// Awaits the first of several, stops the others, and waits until they have ended.
///
/// Errors     An exception thrown before there is a winner stops all, and is thrown on.
template <class... Awaitables>
    requires(sizeof...(Awaitables) > 0 && (!std::is_reference_v<Awaitables> && ...))
task<first_of<detail::kept<Awaitables>...>> when_any(Awaitables... awaitables) {
    cancel_scope& outer = co_await current_scope();
    task_scope all(outer.on(), &outer);
    first_of<detail::kept<Awaitables>...> outcome{detail::no_winner, {}};
    std::exception_ptr failure;
    try {
        std::size_t index = 0;
        std::apply(
            [&](auto&... value) {
                (all.spawn(detail::race<Awaitables>(std::move(awaitables), value, index++,
                                                    outcome.index, all)),
                 ...);
            },
            outcome.values);
    } catch (...) {
        failure = std::current_exception();
        all.request_stop();
    }
    try {
        co_await all.join();
    } catch (...) {
        if (!failure && outcome.index == detail::no_winner) failure = std::current_exception();
    }
    if (failure) std::rethrow_exception(failure);
    co_return outcome;
}

}  // namespace kevring
