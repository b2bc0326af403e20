// task.hpp: a lazy coroutine that is awaited once and returns a T.
#pragma once

#include <kevring/runtime/assert.hpp>
#include <kevring/runtime/cancel_scope.hpp>
#include <kevring/runtime/detail/deep_stack.hpp>
#include <kevring/runtime/detail/frame_pool.hpp>
#include <kevring/runtime/operation.hpp>

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace kevring {

template <class T = void>
class task;

namespace detail {

/// The common part of every promise of the library: the scope of the coroutine, and its awaiter.
///
/// A child is started inside its parent's await_suspend(), and there is no symmetric transfer: g++
/// makes it a plain call below -O2 and under sanitizers, and a long loop of awaits would overflow
/// the stack. A child that ends before it first suspends records that in `progress_`, and the parent
/// continues without having been suspended; one that ends later resumes its parent from there.
/// Where such calls are nested so deeply that the stack could end, the loop makes the next one
/// (detail/deep_stack.hpp), so that a chain of awaits may have any length.
class promise_base {
public:
    static void* operator new(std::size_t bytes) { return allocate_frame(bytes); }
    static void operator delete(void* frame, std::size_t bytes) noexcept {
        free_frame(frame, bytes);
    }

    std::suspend_always initial_suspend() const noexcept { return {}; }

    struct final_awaiter {
        bool await_ready() const noexcept { return false; }
        template <class Promise>
        void await_suspend(std::coroutine_handle<Promise> ended) const noexcept {
            promise_base& promise = ended.promise();
            if (promise.progress_ == progress::starting) {
                promise.progress_ = progress::ended_inline;
                return;
            }
            // last: the parent may destroy this frame
            resume_bounded(promise.scope, promise.continuation_);
        }
        void await_resume() const noexcept {}
    };
    final_awaiter final_suspend() const noexcept { return {}; }

    void unhandled_exception() noexcept { failure_ = std::current_exception(); }

    /// Runs the coroutine `self` until it suspends or ends. True: it ended, and the continuation is
    /// not resumed.
    bool start(std::coroutine_handle<> self, std::coroutine_handle<> continuation) noexcept {
        continuation_ = continuation;
        if (resume_later_if_deep(scope, self)) [[unlikely]] {
            progress_ = progress::suspended;
            return false;
        }
        progress_ = progress::starting;
        self.resume();
        if (progress_ == progress::ended_inline) return true;
        progress_ = progress::suspended;
        return false;
    }

    /// True from the first await on: the kernel may hold addresses inside the frame until it ends.
    bool started() const noexcept { return progress_ != progress::created; }

    void rethrow() {
        if (failure_) [[unlikely]]
            std::rethrow_exception(std::exchange(failure_, nullptr));
    }

    cancel_scope* scope = nullptr;  // inherited from the awaiting coroutine

private:
    enum class progress : std::uint8_t {
        created,
        starting,      // inside of start()
        suspended,     // start() has returned, or is about to
        ended_inline,  // before it first suspended
    };

    std::coroutine_handle<> continuation_;
    std::exception_ptr failure_;
    progress progress_ = progress::created;
};

template <class T>
class promise final : public promise_base {
public:
    task<T> get_return_object() noexcept;
    template <class U>
        requires std::is_constructible_v<T, U>
    void return_value(U&& value) noexcept(std::is_nothrow_constructible_v<T, U>) {
        value_.emplace(std::forward<U>(value));
    }
    T take() {
        rethrow();
        KEVRING_ASSERT(
            value_.has_value(),
            "task ended without co_return; end every path of a task<T> with co_return of a T");
        return std::move(*value_);
    }

private:
    std::optional<T> value_;
};

template <class T>
class promise<T&> final : public promise_base {
public:
    task<T&> get_return_object() noexcept;
    void return_value(T& value) noexcept { value_ = &value; }
    T& take() {
        rethrow();
        KEVRING_ASSERT(
            value_ != nullptr,
            "task ended without co_return; end every path of a task<T> with co_return of a T");
        return *value_;
    }

private:
    T* value_ = nullptr;
};

template <>
class promise<void> final : public promise_base {
public:
    task<void> get_return_object() noexcept;
    void return_void() const noexcept {}
    void take() { rethrow(); }
};

// True for results that carry nothing, such as those of when_all() over tasks without a value.
template <class T>
inline constexpr bool carries_nothing = std::is_void_v<T> || std::is_same_v<T, std::monostate>;
template <class... T>
inline constexpr bool carries_nothing<std::tuple<T...>> = (carries_nothing<T> && ...);
template <class T>
inline constexpr bool carries_nothing<std::vector<T>> = carries_nothing<T>;

}  // namespace detail

/// A coroutine that starts when it is awaited, runs in the scope of the awaiting coroutine, and
/// returns a T or throws. It is awaited once, as an rvalue: `co_await f()`, or
/// `co_await std::move(kept)`. Awaiting an lvalue does not compile.
///
/// Lifetime   Owns the frame. A task that was never awaited can be destroyed at any time; one that
///            was awaited must have ended, because the kernel may hold addresses inside the frame.
/// Thread     That of the ring on which the awaiting coroutine runs.
/// Depth      A chain of tasks that await each other may have any length: the stack that it uses
///            is bounded (detail/deep_stack.hpp), its frames are on the heap.
template <class T>
class [[nodiscard("a task does nothing until it is awaited")]] task {
public:
    using promise_type = detail::promise<T>;
    using value_type = T;

    task(task&& other) noexcept : frame_(std::exchange(other.frame_, {})) {}
    task& operator=(task&& other) noexcept {
        if (this != &other) {
            drop();
            frame_ = std::exchange(other.frame_, {});
        }
        return *this;
    }
    ~task() { drop(); }

    class awaiter {
    public:
        explicit awaiter(std::coroutine_handle<promise_type> frame) noexcept : frame_(frame) {}
        bool await_ready() const noexcept { return false; }
        template <class Promise>
        bool await_suspend(std::coroutine_handle<Promise> parent) const noexcept {
            frame_.promise().scope = scope_of(parent);
            return !frame_.promise().start(frame_, parent);
        }
        [[nodiscard]] T await_resume() const
            requires(!detail::carries_nothing<T>)
        {
            return frame_.promise().take();
        }
        T await_resume() const
            requires(detail::carries_nothing<T>)
        {
            return frame_.promise().take();
        }

    private:
        std::coroutine_handle<promise_type> frame_;
    };

    awaiter operator co_await() && noexcept {
        KEVRING_ASSERT(frame_,
                       "task awaited after it was moved from; await the task that it was moved to");
        KEVRING_ASSERT(!frame_.promise().started(),
                       "task awaited twice; create one task per await");
        return awaiter(frame_);
    }
    /// A task is awaited once: write `co_await std::move(t)`.
    void operator co_await() & = delete;
    void operator co_await() const& = delete;

private:
    friend promise_type;

    void drop() noexcept {
        if (!frame_) return;
        KEVRING_ASSERT(!frame_.promise().started() || frame_.done(),
                       "task destroyed while it runs; stop it and await its end first");
        frame_.destroy();
    }

    explicit task(std::coroutine_handle<promise_type> frame) noexcept : frame_(frame) {}

    std::coroutine_handle<promise_type> frame_;
};

template <class T>
task<T> detail::promise<T>::get_return_object() noexcept {
    return task<T>(std::coroutine_handle<promise>::from_promise(*this));
}
template <class T>
task<T&> detail::promise<T&>::get_return_object() noexcept {
    return task<T&>(std::coroutine_handle<promise>::from_promise(*this));
}
inline task<void> detail::promise<void>::get_return_object() noexcept {
    return task<void>(std::coroutine_handle<promise>::from_promise(*this));
}

}  // namespace kevring
