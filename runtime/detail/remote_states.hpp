// remote_states.hpp: the states of a task that another thread may stop and await.
#pragma once

#include <kevring/runtime/cancel_scope.hpp>
#include <kevring/runtime/thread_mutex.hpp>

namespace kevring::detail {

/// The transitions of a remote task, apart from coroutines, so that a test can run them in every order.
///
/// `World` has the types mutex, lock, condition, loop, scope and item, and static functions that are
/// called under the mutex: post(loop&, item&) runs a stop that was requested on the loop of the task,
/// post_expected(loop&, item&) resumes the waiter, notify(condition&) wakes blocked threads.
///
/// Thread     Any; begin() and end() on the thread of the loop of the task.
template <class World>
class remote_states {
public:
    using loop_type = typename World::loop;
    using scope_type = typename World::scope;
    using item_type = typename World::item;

    explicit remote_states(loop_type& loop) noexcept : loop_(&loop) {}

    /// The task runs in `scope` from here on. Returns a stop that was requested before.
    stop_cause begin(scope_type& scope) noexcept KEVRING_EXCLUDES(mutex_) {
        const typename World::lock lock(mutex_);
        scope_ = &scope;
        return cause_;
    }
    /// The task has ended, or never starts: its frame and its scope are not used any more.
    void end() noexcept KEVRING_EXCLUDES(mutex_) {
        const typename World::lock lock(mutex_);
        loop_ = nullptr;
        scope_ = nullptr;
        World::notify(ended_condition_);
        // The loop of the waiter stays until this post has been made, and the waiter keeps this object
        // until it has locked the mutex.
        if (waiter_ != nullptr) World::post_expected(*waiting_loop_, *waiter_);
    }
    bool ended() noexcept KEVRING_EXCLUDES(mutex_) {
        const typename World::lock lock(mutex_);
        return loop_ == nullptr;
    }
    /// Blocks the thread until the task has ended.
    void wait() noexcept KEVRING_EXCLUDES(mutex_) {
        typename World::lock lock(mutex_);
        while (loop_ != nullptr) ended_condition_.wait(lock);
    }
    /// False: the task has ended. True: `item` will be posted to `waiting`.
    bool watch(loop_type& waiting, item_type& item) noexcept KEVRING_EXCLUDES(mutex_) {
        const typename World::lock lock(mutex_);
        if (loop_ == nullptr) return false;
        waiting_loop_ = &waiting;
        waiter_ = &item;
        return true;
    }
    /// The first request of a task that runs posts `arrival` to its loop, after `keep()`; begin() returns
    /// an earlier one. A task that has not ended keeps its loop, so the post reaches a loop that exists.
    template <class Keep>
    void request_stop(stop_cause cause, item_type& arrival, Keep keep) noexcept
        KEVRING_EXCLUDES(mutex_) {
        const typename World::lock lock(mutex_);
        if (loop_ == nullptr || cause_ != stop_cause::none) return;
        cause_ = cause;
        if (scope_ == nullptr) return;
        keep();
        World::post(*loop_, arrival);
    }
    /// The scope that a stop that has arrived is for, or null after the end. It changes on the thread of
    /// the loop only, which calls this.
    scope_type* stopped_scope(stop_cause& cause) noexcept KEVRING_EXCLUDES(mutex_) {
        const typename World::lock lock(mutex_);
        cause = cause_;
        return scope_;
    }

private:
    typename World::mutex mutex_;
    typename World::condition ended_condition_;
    loop_type* loop_ KEVRING_GUARDED_BY(mutex_);              // null when the task has ended
    scope_type* scope_ KEVRING_GUARDED_BY(mutex_) = nullptr;  // while the task runs
    stop_cause cause_ KEVRING_GUARDED_BY(mutex_) = stop_cause::none;
    loop_type* waiting_loop_ KEVRING_GUARDED_BY(mutex_) = nullptr;
    item_type* waiter_ KEVRING_GUARDED_BY(mutex_) = nullptr;
};

}  // namespace kevring::detail
