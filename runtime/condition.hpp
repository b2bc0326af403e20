// condition.hpp: coroutines that wait until a state guarded by a mutex has changed.
#pragma once

#include <kevring/runtime/assert.hpp>
#include <kevring/runtime/detail/wait_list.hpp>
#include <kevring/runtime/mutex.hpp>
#include <kevring/runtime/result.hpp>
#include <kevring/runtime/task.hpp>

#include <coroutine>
#include <mutex>
#include <utility>

namespace kevring {

/// A condition variable for a mutex of the same kind.
///
///     auto guard = co_await m.lock();
///     ...
///     while (!ready) {
///         const auto notified = co_await changed.wait(*guard);
///         if (!notified) co_return;  // stopped; the mutex is held
///     }
///
/// wait() releases the mutex and waits in one step: a notify that follows the release is not missed.
/// Use it where the state needs a mutex because it is changed across an await, or on several rings;
/// else a coroutine of one ring needs no mutex.
///
/// Result     Of wait(): nothing, after a notify. The mutex is held again, in every case. There are
///            no spurious returns, but another coroutine may have changed the state in between.
/// Errors     Of wait(): operation_canceled and timed_out by the scope around it, and then no
///            notify was consumed. The stop does not apply while it takes the mutex again.
/// Order      Notifies reach the waiters in the order in which they came.
/// Lifetime   Outlives the waits for it, as does the mutex.
template <class Domain>
class basic_condition {
    using mutex_type = basic_mutex<Domain>;
    using guard_type = typename mutex_type::guard;

public:
    basic_condition() noexcept = default;
    basic_condition(const basic_condition&) = delete;
    basic_condition& operator=(const basic_condition&) = delete;
    ~basic_condition() {
        if (waiters_.inherited()) return;
        detail::finish_guard(domain_);
        KEVRING_ASSERT(waiters_.empty(),
                       "condition destroyed while a task waits for it; end its users first");
    }

    task<result<void>> wait(guard_type& held) {
        KEVRING_ASSERT(held.owns_lock(),
                       "condition awaited without its mutex; pass a guard that holds the mutex");
        mutex_type& held_mutex = *held.mutex_;
        wait_operation notified(*this, held);
        const result<void> outcome = co_await notified;
        if (held.owns_lock()) co_return outcome;  // the scope was stopped before the wait began
        auto lock = held_mutex.lock();
        lock.ignore_stops();
        result<guard_type> again = co_await lock;
        held = std::move(*again);
        co_return outcome;
    }
    /// Releases the waiter that has waited longest.
    void notify_one() noexcept {
        const std::lock_guard inside(domain_);
        if (!waiters_.empty()) waiters_.grant_front(domain_);
    }
    void notify_all() noexcept {
        const std::lock_guard inside(domain_);
        waiters_.grant_all(domain_);
    }

private:
    template <class, class>
    friend class detail::wait_operation;

    class wait_operation final
        : public detail::wait_operation<basic_condition, detail::wait_entry> {
    public:
        wait_operation(basic_condition& condition, guard_type& held) noexcept
            : detail::wait_operation<basic_condition, detail::wait_entry>(condition), held_(held) {}
        template <class Promise>
        bool await_suspend(std::coroutine_handle<Promise> waiter) noexcept {
            if (!this->start(waiter, scope_of(waiter))) return false;
            held_.unlock();  // after the wait has begun, so that no notify is missed
            return true;
        }
        [[nodiscard]] result<void> await_resume() const noexcept {
            if (!this->granted()) return this->failure();
            return {};
        }

    private:
        guard_type& held_;
    };

    Domain& domain() noexcept { return domain_; }
    bool try_take(detail::wait_entry&) const noexcept { return false; }
    void enqueue(detail::wait_entry& entry) noexcept { waiters_.push_back(entry); }
    void withdrawn(detail::wait_entry&) const noexcept {}

    Domain domain_;
    detail::wait_list waiters_;  // guarded by domain_
};

using condition = basic_condition<detail::one_loop>;

namespace cross_loop {
using condition = basic_condition<detail::cross_loop>;
}  // namespace cross_loop

}  // namespace kevring
