// deadline.hpp: limits on how long awaits may take, inherited by all that is awaited below.
#pragma once

#include <kevring/runtime/assert.hpp>
#include <kevring/runtime/cancel_scope.hpp>
#include <kevring/runtime/detail/stop_bridge.hpp>
#include <kevring/runtime/operation.hpp>
#include <kevring/runtime/task.hpp>

#include <chrono>
#include <concepts>
#include <coroutine>
#include <cstdint>
#include <exception>
#include <optional>
#include <stop_token>
#include <type_traits>
#include <utility>

namespace kevring {
namespace detail {

template <class T>
decltype(auto) awaiter_of(T&& awaitable) {
    if constexpr (requires { std::forward<T>(awaitable).operator co_await(); }) {
        return std::forward<T>(awaitable).operator co_await();
    } else if constexpr (requires { operator co_await(std::forward<T>(awaitable)); }) {
        return operator co_await(std::forward<T>(awaitable));
    } else {
        return std::forward<T>(awaitable);
    }
}

template <class T>
using await_result = decltype(awaiter_of(std::declval<T>()).await_resume());

/// An awaitable whose await_resume() takes an item out of a stream or queue, which keeps the item
/// if leave() is called instead. leave() returns false if there is nothing to keep, because the
/// await was stopped; then await_resume() must be called.
template <class T>
concept leaves_items = requires(T& awaiter) {
    { awaiter.leave() } -> std::same_as<bool>;
    awaiter.await_resume();
};

/// Awaits `awaiter` as a coroutine that runs in `scope`: `waiter` returns to its own scope before
/// this returns. All awaits of the library read the scope when they suspend.
template <class Awaiter, class Promise>
bool suspend_inside(cancel_scope& scope, Awaiter& awaiter, std::coroutine_handle<Promise> waiter) {
    cancel_scope* const outer = std::exchange(waiter.promise().scope, &scope);
    bool suspended = true;
    if constexpr (std::is_void_v<decltype(awaiter.await_suspend(waiter))>) {
        awaiter.await_suspend(waiter);
    } else {
        suspended = awaiter.await_suspend(waiter);
    }
    waiter.promise().scope = outer;
    return suspended;
}

}  // namespace detail

/// A type whose objects can be awaited once, as rvalues.
template <class T>
concept awaitable = requires { typename detail::await_result<T>; };

/// A limit on the rest of a block: while it lives, every await of the coroutine and of what it
/// awaits ends with timed_out once the deadline has passed, or with operation_canceled if an outer
/// scope was stopped first.
///
///     auto limit = co_await within(5s);
///     auto got = co_await socket.receive(buffer);  // timed_out after 5 s in all
///     co_await socket.send(answer);
///
/// Lifetime   A local variable of the coroutine that awaited within(); limits nest like blocks.
class [[nodiscard]] deadline_guard {
public:
    [[nodiscard]] deadline_guard(cancel_scope*& slot, cancel_scope& outer,
                                 std::int64_t deadline_ns) noexcept
        : slot_(slot), outer_(outer), scope_(outer.loop(), &outer) {
        scope_.set_deadline(deadline_ns);
        slot_ = &scope_;
    }
    deadline_guard(const deadline_guard&) = delete;
    deadline_guard& operator=(const deadline_guard&) = delete;
    ~deadline_guard() {
        KEVRING_ASSERT(slot_ == &scope_,
                       "limits ended out of order; keep each guard of within() and until() as a "
                       "local variable of its block");
        slot_ = &outer_;
    }

    /// Sets another deadline from now on: for progress that earns more time.
    void expires_after(clamped_duration from_now) noexcept {
        scope_.set_deadline(add_ns(scope_.loop().now_ns(), from_now));
    }
    bool expired() const noexcept { return scope_.cause() == stop_cause::deadline; }
    cancel_scope& scope() noexcept { return scope_; }

private:
    cancel_scope*& slot_;
    cancel_scope& outer_;
    cancel_scope scope_;
};

class [[nodiscard("a limit holds as long as the guard that co_await gives")]] deadline_awaiter {
public:
    explicit deadline_awaiter(nanoseconds from_now) noexcept
        : from_now_(from_now), relative_(true) {}
    explicit deadline_awaiter(steady_time deadline) noexcept
        : deadline_ns_(to_ns(deadline)), relative_(false) {}
    bool await_ready() const noexcept { return false; }
    template <class Promise>
        requires std::derived_from<Promise, detail::promise_base>
    bool await_suspend(std::coroutine_handle<Promise> self) noexcept {
        slot_ = &self.promise().scope;
        return false;
    }
    [[nodiscard]] deadline_guard await_resume() const noexcept {
        KEVRING_ASSERT(*slot_ != nullptr,
                       "within() or until() awaited by a coroutine that runs on no ring; start it "
                       "by run() or spawn()");
        cancel_scope& outer = **slot_;
        return deadline_guard(*slot_, outer,
                              relative_ ? add_ns(outer.loop().now_ns(), from_now_) : deadline_ns_);
    }

private:
    nanoseconds from_now_{0};
    std::int64_t deadline_ns_ = never_ns;
    bool relative_;
    cancel_scope** slot_ = nullptr;
};

/// Limits the rest of the block to `from_now`; see deadline_guard.
inline deadline_awaiter within(clamped_duration from_now) noexcept {
    return deadline_awaiter(nanoseconds(from_now));
}
/// Limits the rest of the block to the time `deadline`.
inline deadline_awaiter until(clamped_time deadline) noexcept {
    return deadline_awaiter(steady_time(deadline));
}

namespace detail {

/// The await of a stream's item under a deadline. The item stays in the stream where the await is
/// left, as by when_any().
template <class Awaitable>
class [[nodiscard]] limited_item {
public:
    using value_type = await_result<Awaitable>;

    limited_item(Awaitable&& awaitable, nanoseconds from_now) noexcept
        : from_now_(from_now), relative_(true), awaitable_(std::move(awaitable)) {}
    limited_item(Awaitable&& awaitable, steady_time deadline) noexcept
        : deadline_ns_(to_ns(deadline)), awaitable_(std::move(awaitable)) {}
    limited_item(limited_item&& other) noexcept
        : from_now_(other.from_now_),
          deadline_ns_(other.deadline_ns_),
          relative_(other.relative_),
          awaitable_(std::move(other.awaitable_)) {}
    limited_item& operator=(limited_item&&) = delete;

    bool await_ready() noexcept { return awaitable_.await_ready(); }
    template <class Promise>
        requires requires(Promise& promise) { promise.scope = nullptr; }
    bool await_suspend(std::coroutine_handle<Promise> waiter) {
        cancel_scope* const outer = waiter.promise().scope;
        KEVRING_ASSERT(outer != nullptr,
                       "with_timeout() or with_deadline() awaited by a coroutine that runs on no "
                       "ring; start it by run() or spawn()");
        scope_.emplace(outer->loop(), outer);
        scope_->set_deadline(relative_ ? add_ns(outer->loop().now_ns(), from_now_) : deadline_ns_);
        return suspend_inside(*scope_, awaitable_, waiter);
    }
    [[nodiscard]] value_type await_resume() { return awaitable_.await_resume(); }
    bool leave() noexcept { return awaitable_.leave(); }

    /// The same as a task, for run() and the like. The task has taken the item when it ends.
    operator task<value_type>() && { return as_task(std::move(*this)); }

private:
    static task<value_type> as_task(limited_item item) { co_return co_await std::move(item); }

    nanoseconds from_now_{0};
    std::int64_t deadline_ns_ = never_ns;
    bool relative_ = false;
    std::optional<cancel_scope> scope_;
    Awaitable awaitable_;  // last: its await ends before the scope that it runs in
};

}  // namespace detail

/// Awaits `awaitable` for at most `from_now`: its awaits end with timed_out then.
///
/// Lost items  None: what a stream's next(), receive() or accept() would have returned is returned
///             by the next one.
template <awaitable Awaitable>
    requires(!std::is_reference_v<Awaitable> && !detail::leaves_items<Awaitable>)
task<detail::await_result<Awaitable>> with_timeout(Awaitable awaitable, clamped_duration from_now) {
    const auto limit = co_await within(from_now);
    co_return co_await std::move(awaitable);
}
template <detail::leaves_items Awaitable>
    requires(!std::is_reference_v<Awaitable>)
detail::limited_item<Awaitable> with_timeout(Awaitable awaitable, clamped_duration from_now) {
    return {std::move(awaitable), nanoseconds(from_now)};
}

/// Awaits `awaitable` until `deadline` at most.
template <awaitable Awaitable>
    requires(!std::is_reference_v<Awaitable> && !detail::leaves_items<Awaitable>)
task<detail::await_result<Awaitable>> with_deadline(Awaitable awaitable, clamped_time deadline) {
    const auto limit = co_await until(deadline);
    co_return co_await std::move(awaitable);
}
template <detail::leaves_items Awaitable>
    requires(!std::is_reference_v<Awaitable>)
detail::limited_item<Awaitable> with_deadline(Awaitable awaitable, clamped_time deadline) {
    return {std::move(awaitable), deadline};
}

namespace detail {

/// Stops a scope when a token is stopped, and can be closed by an await.
class scope_stopper {
public:
    scope_stopper(cancel_scope& scope, std::stop_token token) noexcept
        : scope_(scope), bridge_(scope.loop(), std::move(token), this, stopped, closed) {}

    auto close() noexcept {
        struct awaiter {
            scope_stopper& self;
            bool await_ready() noexcept { return self.bridge_.close(); }
            void await_suspend(std::coroutine_handle<> waiter) noexcept { self.waiter_ = waiter; }
            void await_resume() const noexcept {}
        };
        return awaiter{*this};
    }

private:
    static void stopped(void* self) noexcept {
        static_cast<scope_stopper*>(self)->scope_.request_stop();
    }
    static void closed(void* self) noexcept { static_cast<scope_stopper*>(self)->waiter_.resume(); }

    cancel_scope& scope_;
    std::coroutine_handle<> waiter_;
    stop_bridge bridge_;
};

}  // namespace detail

/// Awaits `awaitable` in a scope that is stopped with `token`, by any thread.
template <awaitable Awaitable>
    requires(!std::is_reference_v<Awaitable>)
task<detail::await_result<Awaitable>> with_stop(Awaitable awaitable, std::stop_token token) {
    auto limit = co_await within(nanoseconds::max());
    detail::scope_stopper stopper(limit.scope(), std::move(token));
    std::exception_ptr failure;
    if constexpr (std::is_void_v<detail::await_result<Awaitable>>) {
        try {
            co_await std::move(awaitable);
        } catch (...) {
            failure = std::current_exception();
        }
        co_await stopper.close();
        if (failure) std::rethrow_exception(failure);
    } else {
        std::optional<detail::await_result<Awaitable>> value;
        try {
            value.emplace(co_await std::move(awaitable));
        } catch (...) {
            failure = std::current_exception();
        }
        co_await stopper.close();
        if (failure) std::rethrow_exception(failure);
        co_return std::move(*value);
    }
}

}  // namespace kevring
