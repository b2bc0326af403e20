// fetched_item.hpp: the await of an item that a task fetches and its owner keeps until it is taken.
#pragma once

#include <kevring/runtime/result.hpp>
#include <kevring/runtime/task.hpp>

#include <coroutine>
#include <optional>
#include <utility>

namespace kevring::detail {

/// Awaits `fetch`, which stores an item in `slot`, and takes it from there. An await that is left,
/// as that of a loser of when_any(), leaves the item in the slot for the next await.
///
/// Lifetime   The owner of `slot` stays where it is until the await has ended.
template <class T>
class [[nodiscard]] fetched_item {
public:
    using value_type = result<T>;

    fetched_item(std::optional<T>& slot, task<result<void>> fetch) noexcept
        : slot_(slot), fetch_(std::move(fetch)) {}

    bool await_ready() const noexcept { return slot_.has_value(); }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> waiter) noexcept {
        awaiter_.emplace(std::move(fetch_).operator co_await());
        return awaiter_->await_suspend(waiter);
    }
    [[nodiscard]] result<T> await_resume() {
        if (awaiter_)
            if (const result<void> fetched = awaiter_->await_resume(); !fetched)
                return tl::unexpected<std::error_code>(fetched.error());
        result<T> item(std::move(*slot_));
        slot_.reset();
        return item;
    }
    bool leave() const noexcept { return slot_.has_value(); }

    /// The same as a task, for run() and the like. The task has taken the item when it ends.
    operator task<result<T>>() && { return as_task(std::move(*this)); }

private:
    static task<result<T>> as_task(fetched_item item) { co_return co_await std::move(item); }

    std::optional<T>& slot_;
    task<result<void>> fetch_;
    std::optional<typename task<result<void>>::awaiter> awaiter_;
};

}  // namespace kevring::detail
