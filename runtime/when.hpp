// when.hpp: several awaits at once: all of them, or the first.
#pragma once

#include <kevring/runtime/cancel_scope.hpp>
#include <kevring/runtime/deadline.hpp>
#include <kevring/runtime/task.hpp>
#include <kevring/runtime/task_scope.hpp>

#include <concepts>
#include <cstddef>
#include <exception>
#include <functional>
#include <limits>
#include <optional>
#include <ranges>
#include <stdexcept>
#include <system_error>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace kevring {

inline constexpr std::size_t no_winner = std::numeric_limits<std::size_t>::max();

/// The result of when_any().
template <class... Values>
struct when_any_result {
    /// The await that ended first, counted from 0 in the order of the arguments. Where `error` is
    /// set, the first that reported the stop.
    std::size_t index = no_winner;
    /// The value of the first is set. The value of a loser is set where it reported its stop, or
    /// had ended before the stop reached it. The item of a stream that lost stays in the stream.
    std::tuple<std::optional<Values>...> values;
    /// operation_canceled or timed_out, if the scope around when_any() was stopped before any await
    /// had a result of its own.
    std::error_code error;
};

/// The result of when_any() over a range; see when_any_result.
template <class Value>
struct when_any_of_result {
    std::size_t index = no_winner;
    std::vector<std::optional<Value>> values;
    std::error_code error;
};

namespace detail {

// The first of awaits without a result: the index may be of no interest.
template <class... Values>
inline constexpr bool carries_nothing<when_any_result<Values...>> =
    (carries_nothing<Values> && ...);
template <class Value>
inline constexpr bool carries_nothing<when_any_of_result<Value>> = carries_nothing<Value>;

template <class T>
struct stored {
    using type = std::remove_cvref_t<T>;
};
template <class T>
struct stored<T&> {
    using type = std::reference_wrapper<T>;
};
template <>
struct stored<void> {
    using type = std::monostate;
};

/// The result of an await as an object that can be stored: std::monostate for void, a
/// std::reference_wrapper for a reference.
template <class Awaitable>
using stored_result = typename stored<await_result<Awaitable>>::type;

// Whether `value` says no more than that its scope was stopped, by the error `code`.

template <class T>
bool reports_stop(const T& value, std::errc code);

template <class T>
struct stop_report {
    static bool check(const T& value, std::errc code) {
        if constexpr (std::is_same_v<T, std::monostate>) {
            return true;  // a stop and an end of its own are the same to it
        } else if constexpr (std::is_same_v<T, std::error_code>) {
            return value == code;
        } else if constexpr (requires {
                                 { value.has_value() } -> std::convertible_to<bool>;
                                 { value.error() == code } -> std::convertible_to<bool>;
                             }) {
            return !value.has_value() && value.error() == code;
        } else if constexpr (requires {
                                 { value.error == code } -> std::convertible_to<bool>;
                             }) {
            return value.error == code;
        } else {
            return false;
        }
    }
};
template <class... T>
struct stop_report<std::tuple<T...>> {
    static bool check(const std::tuple<T...>& values, std::errc code) {
        return std::apply([&](const T&... value) { return (reports_stop(value, code) || ...); },
                          values);
    }
};
template <class T>
struct stop_report<std::vector<T>> {
    static bool check(const std::vector<T>& values, std::errc code) {
        for (const T& value : values)
            if (reports_stop<T>(value, code)) return true;
        return false;
    }
};

template <class T>
bool reports_stop(const T& value, std::errc code) {
    return stop_report<T>::check(value, code);
}

/// Decides when_any(). Nothing treats a stop as a result: a value or an exception that only reports
/// the stop of the scope neither wins nor hides the exception of another await.
class race {
public:
    explicit race(task_scope& runners) noexcept : runners_(runners) {}

    bool decided() const noexcept { return winner_ != no_winner || failure_ != nullptr; }

    template <class Value>
    void ended(std::size_t index, const Value& value) noexcept {
        if (decided()) return;
        if (runners_.stop_requested() && reports_stop(value, errc_of(runners_.scope().cause()))) {
            if (stopped_ == no_winner) stopped_ = index;
            return;
        }
        winner_ = index;
        runners_.request_stop();
    }
    void failed(std::exception_ptr failure) noexcept {
        if (decided()) return;
        if (is_stop(failure, runners_.scope().cause())) {
            if (!stop_failure_) stop_failure_ = std::move(failure);
            return;
        }
        failure_ = std::move(failure);
        runners_.request_stop();
    }

    /// Once all have ended: writes what is known of the outcome, or throws the exception.
    template <class Result>
    void finish(Result& outcome) {
        if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
        outcome.index = winner_;
        if (winner_ != no_winner) return;
        if (stop_failure_) std::rethrow_exception(std::exchange(stop_failure_, nullptr));
        outcome.index = stopped_;
        outcome.error = std::make_error_code(errc_of(runners_.scope().cause()));
    }

private:
    task_scope& runners_;
    std::size_t winner_ = no_winner;
    std::size_t stopped_ = no_winner;
    std::exception_ptr failure_;
    std::exception_ptr stop_failure_;
};

/// Awaits one entry of a race. An item of a stream is taken by the winner only.
template <class Awaiter>
class race_awaiter {
public:
    using result_type = decltype(std::declval<Awaiter&>().await_resume());

    race_awaiter(Awaiter& awaiter, const race& decision) noexcept
        : awaiter_(awaiter), decision_(decision) {}
    bool await_ready() { return awaiter_.await_ready(); }
    template <class Promise>
    auto await_suspend(std::coroutine_handle<Promise> waiter) {
        return awaiter_.await_suspend(waiter);
    }
    std::optional<result_type> await_resume() {
        if (decision_.decided() && awaiter_.leave()) return std::nullopt;
        return awaiter_.await_resume();
    }

private:
    Awaiter& awaiter_;
    const race& decision_;
};

template <class Awaitable, class Value>
task<void> store_result(Awaitable awaitable, std::optional<Value>& value) {
    if constexpr (std::is_void_v<await_result<Awaitable>>) {
        co_await std::move(awaitable);
        value.emplace();
    } else {
        value.emplace(co_await std::move(awaitable));
    }
}

template <class Awaitable, class Value>
task<void> run_entry(Awaitable awaitable, std::optional<Value>& value, std::size_t index,
                     race& decision) {
    try {
        if constexpr (leaves_items<Awaitable>) {
            race_awaiter<Awaitable> awaiter(awaitable, decision);
            std::optional<await_result<Awaitable>> received = co_await awaiter;
            if (!received) co_return;
            value.emplace(std::move(*received));
        } else if constexpr (std::is_void_v<await_result<Awaitable>>) {
            co_await std::move(awaitable);
            value.emplace();
        } else {
            value.emplace(co_await std::move(awaitable));
        }
    } catch (...) {
        decision.failed(std::current_exception());
        co_return;
    }
    decision.ended(index, *value);
}

template <class Range>
std::vector<std::ranges::range_value_t<Range>> collect(Range& range) {
    std::vector<std::ranges::range_value_t<Range>> elements;
    if constexpr (std::ranges::sized_range<Range>) elements.reserve(std::ranges::size(range));
    auto&& last = std::ranges::end(range);
    for (auto iterator = std::ranges::begin(range); iterator != last; ++iterator)
        elements.push_back(std::ranges::iter_move(iterator));
    return elements;
}

// Waits until `runners` have ended, also after `start()`, which spawned them, has thrown.
template <class Start>
task<void> run_all(task_scope& runners, Start& start) {
    try {
        start();
    } catch (...) {  // out of memory half-way
        runners.fail(std::current_exception());
    }
    co_await runners.join();
}

}  // namespace detail

/// Awaits all, side by side, and returns the result of each, in order.
///
///     auto [sent, received] = co_await when_all(s.send(text), s.receive());
///
/// Result     A tuple; std::monostate stands for an await without a result, a
///            std::reference_wrapper for one that returns a reference.
/// Errors     The first exception, thrown after the others have been stopped and have ended. An
///            exception that only reports the stop gives precedence to one that does not.
template <awaitable... Awaitables>
    requires(sizeof...(Awaitables) > 0 && (!std::is_reference_v<Awaitables> && ...))
task<std::tuple<detail::stored_result<Awaitables>...>> when_all(Awaitables... awaitables) {
    cancel_scope& outer = co_await current_scope();
    task_scope runners(outer.loop(), &outer);
    std::tuple<std::optional<detail::stored_result<Awaitables>>...> values;
    auto start = [&] {
        std::apply(
            [&](auto&... value) {
                (runners.spawn(detail::store_result<Awaitables>(std::move(awaitables), value)),
                 ...);
            },
            values);
    };
    co_await detail::run_all(runners, start);
    co_return std::apply(
        [](auto&... value) {
            return std::tuple<detail::stored_result<Awaitables>...>(std::move(*value)...);
        },
        values);
}

/// Awaits all elements of a range, side by side, and returns the result of each, in order. The
/// elements are moved from; none: the result is empty.
///
///     std::vector<task<int>> jobs = ...;
///     std::vector<int> results = co_await when_all(std::move(jobs));
///
/// Errors     As when_all() over arguments.
template <std::ranges::input_range Range>
    requires(!std::is_reference_v<Range> && awaitable<std::ranges::range_value_t<Range>>)
task<std::vector<detail::stored_result<std::ranges::range_value_t<Range>>>> when_all(Range range) {
    using awaited = std::ranges::range_value_t<Range>;
    using value_type = detail::stored_result<awaited>;
    cancel_scope& outer = co_await current_scope();
    task_scope runners(outer.loop(), &outer);
    std::vector<awaited> awaitables = detail::collect(range);
    std::vector<std::optional<value_type>> values(awaitables.size());
    auto start = [&] {
        for (std::size_t i = 0; i < awaitables.size(); ++i)
            runners.spawn(detail::store_result<awaited>(std::move(awaitables[i]), values[i]));
    };
    co_await detail::run_all(runners, start);
    std::vector<value_type> results;
    results.reserve(values.size());
    for (auto& value : values) results.push_back(std::move(*value));
    co_return results;
}

/// Awaits the first of several, stops the others, and waits until they have ended.
///
///     auto first = co_await when_any(s.receive(), sleep_for(1s));
///     if (first.index == 0) use(*std::get<0>(first.values));
///
/// Nothing is lost: the next receive, accept or next() returns the item that a loser would have
/// taken, and the value of any other loser is in the result.
///
/// Result     See when_any_result. A result that only reports that the scope around when_any() was
///            stopped never wins; where all do, `error` is set.
/// Errors     An exception before there is a winner stops the others, and is thrown when they have
///            ended. An exception after that is dropped.
template <awaitable... Awaitables>
    requires(sizeof...(Awaitables) > 0 && (!std::is_reference_v<Awaitables> && ...))
task<when_any_result<detail::stored_result<Awaitables>...>> when_any(Awaitables... awaitables) {
    cancel_scope& outer = co_await current_scope();
    task_scope runners(outer.loop(), &outer);
    when_any_result<detail::stored_result<Awaitables>...> outcome;
    detail::race decision(runners);
    auto start = [&] {
        std::size_t index = 0;
        std::apply(
            [&](auto&... value) {
                (runners.spawn(detail::run_entry<Awaitables>(std::move(awaitables), value, index++,
                                                             decision)),
                 ...);
            },
            outcome.values);
    };
    co_await detail::run_all(runners, start);
    decision.finish(outcome);
    co_return outcome;
}

/// Awaits the first of a range; the elements are moved from. See when_any() over arguments.
///
/// Errors     std::invalid_argument for an empty range, for which nothing would ever end.
template <std::ranges::input_range Range>
    requires(!std::is_reference_v<Range> && awaitable<std::ranges::range_value_t<Range>>)
task<when_any_of_result<detail::stored_result<std::ranges::range_value_t<Range>>>> when_any(
    Range range) {
    using awaited = std::ranges::range_value_t<Range>;
    cancel_scope& outer = co_await current_scope();
    task_scope runners(outer.loop(), &outer);
    std::vector<awaited> awaitables = detail::collect(range);
    if (awaitables.empty())
        throw std::invalid_argument(
            "kevring: when_any() of no awaitables; test for an empty range");
    when_any_of_result<detail::stored_result<awaited>> outcome;
    outcome.values.resize(awaitables.size());
    detail::race decision(runners);
    auto start = [&] {
        for (std::size_t i = 0; i < awaitables.size(); ++i)
            runners.spawn(detail::run_entry<awaited>(std::move(awaitables[i]), outcome.values[i], i,
                                                     decision));
    };
    co_await detail::run_all(runners, start);
    decision.finish(outcome);
    co_return outcome;
}

/// when_any() by the name that channels use: `select(a.receive(), b.receive(), sleep_for(1s))` takes
/// one item, and the items of the others stay in their channels and streams. Where several are ready
/// the first of the arguments wins.
template <awaitable... Awaitables>
    requires(sizeof...(Awaitables) > 0 && (!std::is_reference_v<Awaitables> && ...))
auto select(Awaitables... awaitables) {
    return when_any(std::move(awaitables)...);
}

}  // namespace kevring
