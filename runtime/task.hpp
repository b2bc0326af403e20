// task.hpp: a lazy coroutine that is awaited once and gives a T.
#pragma once

#include <kevring/runtime/assert.hpp>
#include <kevring/runtime/cancel_scope.hpp>
#include <kevring/runtime/detail/frame_pool.hpp>
#include <kevring/runtime/operation.hpp>

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <optional>
#include <type_traits>
#include <utility>

namespace kevring {

template <class T = void>
class task;

namespace detail {

/// What every coroutine of the library has: the scope it runs in, and who awaits it.
///
/// A child is started inside its parent's await_suspend(), and there is no symmetric transfer: g++
/// makes it a plain call below -O2 and under sanitizers, and a long loop of awaits would overflow
/// the stack. A child that ends before it ever suspends says so by `ended_inline`, and the parent
/// goes on without having been suspended; one that ends later resumes its parent from there.
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
            if (promise.starting_) {
                promise.ended_inline_ = true;
                return;
            }
            promise.continuation_.resume();  // last: the parent may destroy this frame
        }
        void await_resume() const noexcept {}
    };
    final_awaiter final_suspend() const noexcept { return {}; }

    void unhandled_exception() noexcept { failure_ = std::current_exception(); }

    /// Runs the coroutine `self` until it suspends or ends. True: it ended, and nobody is resumed.
    bool start(std::coroutine_handle<> self, std::coroutine_handle<> continuation) noexcept {
        continuation_ = continuation;
        started_ = true;
        starting_ = true;
        self.resume();
        starting_ = false;
        return ended_inline_;
    }

    /// True from the first await on: the kernel may hold addresses inside the frame until it ends.
    bool started() const noexcept { return started_; }

    void rethrow() {
        if (failure_) [[unlikely]]
            std::rethrow_exception(std::exchange(failure_, nullptr));
    }

    cancel_scope* scope = nullptr;  // inherited from whoever awaits

private:
    std::coroutine_handle<> continuation_;
    std::exception_ptr failure_;
    bool started_ = false;
    bool starting_ = false;
    bool ended_inline_ = false;
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

}  // namespace detail

/// A coroutine that starts when it is awaited, runs in the scope of whoever awaits it, and gives a
/// T or what it threw.
///
/// Lifetime   Owns the frame. Destroying one that never started is free; one that has started must
///            have ended, for the kernel may hold addresses inside the frame.
/// Thread     The ring's that its awaiter runs on.
template <class T>
class [[nodiscard("a task does nothing until it is awaited")]] task {
public:
    using promise_type = detail::promise<T>;
    using value_type = T;

    task(task&& from) noexcept : frame_(std::exchange(from.frame_, {})) {}
    task& operator=(task&& from) noexcept {
        if (this != &from) {
            drop();
            frame_ = std::exchange(from.frame_, {});
        }
        return *this;
    }
    ~task() { drop(); }

    bool await_ready() const noexcept {
        KEVRING_ASSERT(frame_,
                       "task awaited after it was moved from; await the task that it was moved to");
        KEVRING_ASSERT(!frame_.promise().started(),
                       "task awaited twice; create one task per await");
        return false;
    }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> parent) noexcept {
        frame_.promise().scope = scope_of(parent);
        return !frame_.promise().start(frame_, parent);
    }
    T await_resume() { return frame_.promise().take(); }

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
