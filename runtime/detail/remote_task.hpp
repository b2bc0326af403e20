// remote_task.hpp: the state that a task on one loop shares with the thread that awaits it.
#pragma once

#include <kevring/runtime/assert.hpp>
#include <kevring/runtime/cancel_scope.hpp>
#include <kevring/runtime/detail/remote_states.hpp>
#include <kevring/runtime/operation.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/task.hpp>
#include <kevring/runtime/task_scope.hpp>
#include <kevring/runtime/thread_mutex.hpp>
#include <kevring/runtime/work.hpp>

#include <coroutine>
#include <exception>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

namespace kevring::detail {

/// The remote_states of tasks on rings.
struct ring_world {
    using mutex = thread_mutex;
    using lock = thread_lock;
    using condition = thread_condition;
    using loop = ring;
    using scope = cancel_scope;
    using item = work;

    static void post(ring& target, work& arrival) noexcept {
        if (target.on_ring_thread())
            target.schedule(
                arrival);  // the caller may be within a walk over the hooks of the scope
        else
            target.post(arrival);
    }
    static void post_expected(ring& waiting, work& waiter) noexcept {
        waiting.post_expected(waiter);
    }
    static void notify(thread_condition& ended) noexcept { ended.notify_all(); }
};

/// Everything but the result.
///
/// Lifetime   Shared by the task, by the object that submit() returned, and by a stop in transit.
/// Thread     Any; begin() and end() on the thread of the loop of the task.
class remote_task_base : public std::enable_shared_from_this<remote_task_base>, private work {
public:
    explicit remote_task_base(ring& loop) noexcept : work(stop_arrived), states_(loop) {}

    /// The task runs in `scope` from here on.
    void begin(cancel_scope& scope) noexcept;
    /// The task has ended, and its frame and its scope are not used any more.
    void end() noexcept { states_.end(); }
    /// The task never starts.
    void refuse() noexcept;

    bool ended() noexcept { return states_.ended(); }
    /// Blocks the thread until the task has ended.
    void wait() noexcept { states_.wait(); }
    void request_stop(stop_cause cause) noexcept;
    /// False: the task has ended. True: `item` will be posted to `waiting`, where that is expected.
    bool watch(ring& waiting, work& item) noexcept { return states_.watch(waiting, item); }

    void set_failure(std::exception_ptr failure) noexcept { failure_ = std::move(failure); }

protected:
    ~remote_task_base() = default;
    void rethrow() {
        if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
    }

private:
    static void stop_arrived(work& item) noexcept;

    remote_states<ring_world> states_;
    // By a stop in transit: written before it is posted, and taken where it arrives.
    std::shared_ptr<remote_task_base> kept_;
    std::exception_ptr failure_;  // written before end(), read after it
};

template <class T>
class remote_task final : public remote_task_base {
public:
    using remote_task_base::remote_task_base;
    template <class U>
    void set_value(U&& value) {
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
class remote_task<T&> final : public remote_task_base {
public:
    using remote_task_base::remote_task_base;
    void set_value(T& value) noexcept { value_ = &value; }
    T& take() {
        rethrow();
        return *value_;
    }

private:
    T* value_ = nullptr;
};
template <>
class remote_task<void> final : public remote_task_base {
public:
    using remote_task_base::remote_task_base;
    void take() { rethrow(); }
};

/// The wait for the end of a remote task. A stop is passed on to the task; the wait continues.
class remote_join : private cancel_hook, private work {
public:
    bool await_ready() const noexcept { return false; }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> waiter) noexcept {
        return start(waiter, scope_of(waiter));
    }

protected:
    explicit remote_join(remote_task_base& state) noexcept
        : cancel_hook(stopped), work(resumed), joined_(state) {}
    remote_join(remote_join&& other) noexcept
        : cancel_hook(stopped), work(resumed), joined_(other.joined_) {
        KEVRING_ASSERT(!other.waiter_,
                       "join() moved after it was awaited; keep it where it was awaited");
    }
    ~remote_join() = default;

private:
    bool start(std::coroutine_handle<> waiter, cancel_scope* scope) noexcept;
    static void stopped(cancel_hook& hook, stop_cause cause) noexcept;
    static void resumed(work& item) noexcept;

    remote_task_base& joined_;
    std::coroutine_handle<> waiter_;
};

template <class T>
detached_task run_remote(std::shared_ptr<remote_task<T>> state, task<T> child) {
    cancel_scope& outer = co_await current_scope();
    {
        cancel_scope own(outer.loop(), &outer);
        const auto inside = co_await enter_scope(own);
        state->begin(own);
        try {
            if constexpr (std::is_void_v<T>) {
                co_await std::move(child);
            } else {
                state->set_value(co_await std::move(child));
            }
        } catch (...) {
            state->set_failure(std::current_exception());
        }
        {
            const task<T> ended = std::move(child);  // its frame is destroyed before the join ends
        }
        state->end();
    }
}

/// Posts `started` to `loop`. Takes the ownership of its frame.
void start_remote(ring& loop, remote_task_base& state, detached_task started);

}  // namespace kevring::detail
