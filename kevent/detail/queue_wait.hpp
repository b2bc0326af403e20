// queue_wait.hpp: the await of events of a queue on a loop.
#pragma once

#include <kevring/kevent/detail/async_waiter.hpp>
#include <kevring/kevent/detail/readiness_watch.hpp>
#include <kevring/kevent/event.hpp>
#include <kevring/runtime/clock.hpp>
#include <kevring/runtime/operation.hpp>
#include <kevring/runtime/result.hpp>
#include <kevring/runtime/task.hpp>

#include <coroutine>
#include <optional>
#include <span>

namespace kevring {
class event_queue;
}

namespace kevring::detail {

/// Awaits a batch of events. The loop collects it before it resumes the task, without a coroutine
/// of its own. A wait with a deadline, and one of a queue that is shared or moves to another loop,
/// is a task instead.
///
/// Lifetime   The queue stays where it is until the await has ended.
class [[nodiscard]] queue_wait {
public:
    using value_type = result<std::span<const event>>;

    queue_wait(event_queue& queue, unsigned min_count, unsigned max_count,
               steady_time deadline) noexcept
        : queue_(queue), min_count_(min_count), max_count_(max_count), deadline_(deadline) {}
    /// Moves a wait that has not begun.
    queue_wait(queue_wait&& other) noexcept
        : queue_wait(other.queue_, other.min_count_, other.max_count_, other.deadline_) {}
    queue_wait& operator=(queue_wait&&) = delete;
    ~queue_wait();

    bool await_ready() const noexcept { return false; }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> waiter) {
        await_as_task_ = [](queue_wait& self, void* frame) {
            self.task_.emplace(self.make_task());
            self.awaiter_.emplace(std::move(*self.task_).operator co_await());
            return self.awaiter_->await_suspend(
                std::coroutine_handle<Promise>::from_address(frame));
        };
        return start(waiter, scope_of(waiter));
    }
    [[nodiscard]] value_type await_resume();

    /// The same as a task, for run() and the like.
    operator task<value_type>() && { return make_task(); }

private:
    class collecting final : public readiness_watch::wait_operation {
    public:
        collecting(queue_wait& owner, readiness_watch& watch, ring& loop) noexcept
            : wait_operation(watch, loop, woken), owner_(owner), watch_(watch), loop_(loop) {}
        ~collecting();
        using wait_operation::await_resume;
        using wait_operation::start;
        /// Collects. True: the wait is over.
        bool collect() noexcept;

    private:
        static bool woken(wait_operation& self, std::coroutine_handle<> waiter) noexcept;

        queue_wait& owner_;
        readiness_watch& watch_;
        ring& loop_;
        async_waiter hook_;
    };

    bool start(std::coroutine_handle<> waiter, cancel_scope* scope);
    task<value_type> make_task() const;

    event_queue& queue_;
    const unsigned min_count_;
    const unsigned max_count_;
    const steady_time deadline_;
    unsigned count_ = 0;
    std::optional<collecting> collecting_;
    bool (*await_as_task_)(queue_wait& self, void* frame) = nullptr;
    std::optional<task<value_type>> task_;
    std::optional<task<value_type>::awaiter> awaiter_;
};

}  // namespace kevring::detail
