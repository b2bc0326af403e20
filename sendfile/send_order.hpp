// send_order.hpp: transfers on one socket, one after another, in the order in which they began.
#pragma once

#include <kevring/runtime/cancel_scope.hpp>
#include <kevring/runtime/detail/intrusive_list.hpp>
#include <kevring/runtime/operation.hpp>
#include <kevring/runtime/result.hpp>
#include <kevring/runtime/work.hpp>

#include <coroutine>
#include <system_error>

namespace kevring {

/// The turn of a socket, taken by one transfer at a time; the others wait in line.
///
/// A transfer that fails in the middle leaves half a message on the stream: whatever came behind it
/// would be read as its rest. So its error is that of all that wait, and of all that follow.
///
/// Lifetime   Outlives the transfers that name it. Belongs to one socket.
/// Thread     The ring's own.
class send_order {
public:
    send_order() noexcept = default;
    send_order(const send_order&) = delete;
    send_order& operator=(const send_order&) = delete;
    ~send_order();

    class enter_operation;
    /// Waits for the turn; whoever gets it calls leave().
    ///
    /// Errors     The error of a transfer before; operation_canceled, timed_out.
    enter_operation enter(ring& on) noexcept;
    /// Gives the turn to the next. An error ends the line.
    void leave(std::error_code error) noexcept;

    /// True while a transfer has the turn.
    bool taken() const noexcept { return taken_; }
    /// What ended the line; none while the stream is whole.
    std::error_code error() const noexcept { return error_; }

private:
    struct waiter_link : detail::list_link {};

    detail::list_link waiters_;
    bool taken_ = false;
    std::error_code error_;
};

class [[nodiscard]] send_order::enter_operation : private waiter_link,
                                                  private cancel_hook,
                                                  private work {
public:
    enter_operation(send_order& of, ring& on) noexcept
        : cancel_hook(stopped), work(resumed), of_(of), ring_(on) {}

    bool await_ready() noexcept {
        error_ = of_.error_;
        if (of_.taken_ && !error_) return false;
        if (!error_) of_.taken_ = true;
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
    friend class send_order;
    bool start(std::coroutine_handle<> waiter, cancel_scope* scope) noexcept;
    void wake(std::error_code error) noexcept;
    static void stopped(cancel_hook& hook, stop_cause cause) noexcept;
    static void resumed(work& item) noexcept;

    send_order& of_;
    ring& ring_;
    std::coroutine_handle<> waiter_;
    std::error_code error_;
    bool woken_ = false;
};

inline send_order::enter_operation send_order::enter(ring& on) noexcept { return {*this, on}; }

}  // namespace kevring
