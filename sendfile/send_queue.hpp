// send_queue.hpp: serializes the transfers on one socket, in the order of their calls.
#pragma once

#include <kevring/runtime/cancel_scope.hpp>
#include <kevring/runtime/detail/intrusive_list.hpp>
#include <kevring/runtime/detail/process.hpp>
#include <kevring/runtime/operation.hpp>
#include <kevring/runtime/result.hpp>
#include <kevring/runtime/work.hpp>

#include <coroutine>
#include <system_error>

namespace kevring {

/// The sending slot of a socket. One transfer holds it; the others wait in FIFO order.
///
/// A transfer that fails after its first byte leaves a truncated message on the stream, and the peer
/// would read the next message as its rest. All waiting and all later transfers fail with its error.
///
/// Lifetime   Outlives the transfers that name it. Belongs to one socket.
/// Thread     The loop's thread.
class send_queue {
public:
    send_queue() noexcept = default;
    send_queue(const send_queue&) = delete;
    send_queue& operator=(const send_queue&) = delete;
    ~send_queue();

    class acquire_operation;
    /// Waits for the slot. The caller that gets it calls release().
    ///
    /// Errors     The error of an earlier transfer; operation_canceled, timed_out.
    acquire_operation acquire(ring& loop) noexcept;
    /// Passes the slot to the next waiter. An error fails all waiters and all later acquires.
    void release(std::error_code error) noexcept;

    /// True while a transfer holds the slot.
    bool busy() const noexcept { return busy_; }
    /// The error that failed the queue; none while the stream is intact.
    std::error_code error() const noexcept { return error_; }

private:
    struct waiter_link : detail::list_link {};

    detail::list_link waiters_;
    const unsigned fork_generation_ = detail::fork_generation();
    bool busy_ = false;
    std::error_code error_;
};

class [[nodiscard]] send_queue::acquire_operation : private waiter_link,
                                                    private cancel_hook,
                                                    private work {
public:
    acquire_operation(send_queue& queue, ring& loop) noexcept
        : cancel_hook(stopped), work(resumed), queue_(queue), loop_(loop) {}

    bool await_ready() noexcept {
        error_ = queue_.error_;
        if (queue_.busy_ && !error_) return false;
        if (!error_) queue_.busy_ = true;
        return true;
    }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> waiter) noexcept {
        return start(waiter, scope_of(waiter));
    }
    result<void> await_resume() const noexcept {
        if (error_) return tl::unexpected<std::error_code>(error_);
        return {};
    }

private:
    friend class send_queue;
    bool start(std::coroutine_handle<> waiter, cancel_scope* scope) noexcept;
    void wake(std::error_code error) noexcept;
    static void stopped(cancel_hook& hook, stop_cause cause) noexcept;
    static void resumed(work& item) noexcept;

    send_queue& queue_;
    ring& loop_;
    std::coroutine_handle<> waiter_;
    std::error_code error_;
    bool woken_ = false;
};

inline send_queue::acquire_operation send_queue::acquire(ring& loop) noexcept {
    return {*this, loop};
}

}  // namespace kevring
