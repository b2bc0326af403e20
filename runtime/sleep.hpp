// sleep.hpp: awaits that end at a time, and the one that yields to other work.
#pragma once

#include <kevring/runtime/assert.hpp>
#include <kevring/runtime/cancel_scope.hpp>
#include <kevring/runtime/clock.hpp>
#include <kevring/runtime/operation.hpp>
#include <kevring/runtime/result.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/timer_queue.hpp>
#include <kevring/runtime/work.hpp>

#include <coroutine>

namespace kevring {

/// Waits until a time has come. Timers live in user space: arming and disarming one costs no
/// system call, and the loop sleeps until the first.
///
/// Result     Nothing, once the time has come; never before.
/// Errors     operation_canceled and timed_out, by the scope around it; operation_not_permitted in
///            a process that was forked from the ring's.
/// Lifetime   Lives in the awaiting coroutine's frame; does not move once awaited.
/// Thread     The ring's own.
class [[nodiscard]] sleep_operation : private cancel_hook, private timer_node, private work {
public:
    [[nodiscard]] sleep_operation(ring& loop, std::int64_t deadline_ns) noexcept
        : cancel_hook(stopped),
          timer_node(passed),
          work(resumed),
          loop_(loop),
          deadline_ns_(deadline_ns) {}
    sleep_operation(sleep_operation&& from) noexcept
        : sleep_operation(from.loop_, from.deadline_ns_) {
        KEVRING_ASSERT(
            !from.waiter_,
            "sleep moved after it was awaited; keep it where it was awaited until it ends");
    }

    bool await_ready() const noexcept { return false; }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> waiter) noexcept {
        return start(waiter, scope_of(waiter));
    }
    [[nodiscard]] result<void> await_resume() const noexcept {
        if (refused_) [[unlikely]]
            return error_from(std::errc::operation_not_permitted);
        if (cause_ == stop_cause::none) return {};
        return error_from(cause_ == stop_cause::deadline ? std::errc::timed_out
                                                         : std::errc::operation_canceled);
    }

private:
    bool start(std::coroutine_handle<> waiter, cancel_scope* scope) noexcept;
    static void passed(timer_node& node) noexcept;
    static void stopped(cancel_hook& hook, stop_cause cause) noexcept;
    static void resumed(work& item) noexcept;

    ring& loop_;
    std::int64_t deadline_ns_;
    std::coroutine_handle<> waiter_;
    stop_cause cause_ = stop_cause::none;
    bool refused_ = false;  // in a process forked from the ring's
};

/// Waits for `duration` on this thread's ring; a negative one is over at once.
sleep_operation sleep_for(clamped_duration duration) noexcept;
/// Waits until `deadline`.
sleep_operation sleep_until(clamped_time deadline) noexcept;

/// Lets everything else that is ready run first, and the kernel be asked for news.
class [[nodiscard]] yield_operation : private work {
public:
    yield_operation() noexcept : work(resumed) {}
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> waiter) noexcept {
        ring* const loop = ring::current();
        KEVRING_ASSERT(loop != nullptr,
                       "yield() awaited on a thread that drives no ring; await it in a task that "
                       "run() or spawn() started");
        waiter_ = waiter;
        loop->schedule(*this);
    }
    void await_resume() const noexcept {}

private:
    static void resumed(work& item) noexcept {
        static_cast<yield_operation&>(item).waiter_.resume();
    }
    std::coroutine_handle<> waiter_;
};
inline yield_operation yield() noexcept { return {}; }

}  // namespace kevring
