// operation.hpp: one request in flight on a ring; the base of everything that awaits the kernel.
#pragma once

#include <kevring/runtime/assert.hpp>
#include <kevring/runtime/cancel_scope.hpp>
#include <kevring/runtime/detail/pending_slot.hpp>
#include <kevring/runtime/result.hpp>
#include <kevring/runtime/ring.hpp>

#include <cerrno>
#include <coroutine>
#include <cstdint>
#include <memory>
#include <stop_token>
#include <utility>

struct io_uring_sqe;

namespace kevring {

namespace detail {
class stop_bridge;
}

/// The scope that a coroutine runs in, or null for one of a foreign promise type.
template <class Promise>
cancel_scope* scope_of(std::coroutine_handle<Promise> coroutine) noexcept {
    if constexpr (requires { coroutine.promise().scope; }) {
        return coroutine.promise().scope;
    } else {
        return nullptr;
    }
}

/// One request that is awaited once.
///
/// Lifetime    Lives in the awaiting coroutine's frame. From await_suspend() to complete() the
///             kernel holds its address: it never moves, and its frame must not be destroyed.
/// Thread      The ring's own, for every member. A stop from elsewhere arrives by ring::post().
/// Invariants  (1) One suspension is followed by exactly one resumption.
///             (2) A stop only asks the kernel to hurry. The outcome still comes through
///                 complete(), so a stop that loses to success needs no state of its own.
///             (3) The kernel handles a cancel entry while it is being submitted, in queue order
///                 (io_uring_prep_cancel(3), NOTES). It runs before any later operation that
///                 reuses this address, so it cannot hit a stranger.
/// Errors      Every request may end with operation_canceled after a stop, with timed_out after
///             the deadline of a scope around it, and with what its man page lists. In a process
///             that was forked from the ring's it ends with operation_not_permitted. With a
///             stop_token it ends with not_enough_memory, and the kernel is not asked, where there
///             is no memory to follow the token.
class operation : public completion, private cancel_hook, private detail::slot_holder {
public:
    /// Moves a request that has not begun, into the frame that will await it.
    operation(operation&& from) noexcept
        : cancel_hook(cancel_in_flight),
          slot_holder(slot_cancelled, from.slot),
          loop_(from.loop_),
          stop_(std::move(from.stop_)),
          res_(from.res_),
          refused_(from.refused_) {
        KEVRING_ASSERT_AT(
            !from.waiter_,
            "operation moved after it was awaited; keep it where it was awaited until it ends",
            from.site_);
    }
    operation& operator=(operation&&) = delete;

    /// True in a process that was forked from that of the ring of `holder`, which is an operation.
    static bool is_inherited(const detail::slot_holder& holder) noexcept {
        return static_cast<const operation&>(holder).loop_.created_by_parent_process();
    }

    bool await_ready() const noexcept {
        return refused_ || (stop_.stop_requested() && loop_.spend_inline_budget());
    }

    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> waiter,
                       detail::call_site site = detail::call_site::current()) noexcept {
        return start(waiter, scope_of(waiter), site);
    }

    /// Resumes the waiter. A request of several steps overrides it: it calls queue_again() until
    /// the last step, and this then.
    void complete(std::int32_t res, std::uint32_t flags) noexcept override;

protected:
    operation(ring& loop, std::stop_token stop) noexcept
        : cancel_hook(cancel_in_flight),
          slot_holder(slot_cancelled),
          loop_(loop),
          stop_(std::move(stop)) {}
    /// Not virtual: no code deletes through the base. The request must be complete by now: the
    /// memory of a frame that is destroyed earlier is reused while the kernel still writes to it.
    ~operation() {
        KEVRING_ASSERT_AT(!in_flight_,
                          "operation destroyed before it ended; stop the awaiting task and join it "
                          "before its frame is destroyed",
                          site_);
    }

    /// The await ends at once with `error`, an errno; the kernel is not asked.
    void refuse(int error) noexcept {
        res_ = -error;
        refused_ = true;
    }
    /// The await ends with connection_already_in_progress where another holds the slot, which
    /// lives until the await ends.
    void hold(detail::pending_slot& where) noexcept { slot = &where; }

    ring& loop() const noexcept { return loop_; }
    /// The kernel's answer: a count, or a negated errno.
    std::int32_t res() const noexcept { return res_; }
    /// The failure that `res()` stands for; a stop by deadline reads timed_out.
    tl::unexpected<std::error_code> failure() const noexcept {
        if (!interrupted()) return error_from(res_);
        return error_from(cause_ == stop_cause::deadline ? std::errc::timed_out
                                                         : std::errc::operation_canceled);
    }
    /// True once a stop or a deadline has asked for the end: no further step begins.
    bool stop_requested() const noexcept { return cause_ != stop_cause::none; }
    /// Queues the next step of a request whose last one has completed.
    void queue_again() noexcept { loop_.queue(*this); }
    /// `res()` as a count of bytes or the like, or failure().
    result<std::size_t> count_or_failure() const noexcept {
        if (res_ < 0) return failure();
        return static_cast<std::size_t>(res_);
    }
    /// `res()` as success, or failure().
    result<void> done_or_failure() const noexcept {
        if (res_ < 0) return failure();
        return {};
    }

private:
    bool start(std::coroutine_handle<> waiter, cancel_scope* scope,
               detail::call_site site) noexcept;
    void resume() noexcept;
    // A worker thread of the kernel that is cancelled sees a signal, and answers by what it was
    // waiting in: EINTR, or one of the numbers that restart a system call (ERESTARTSYS, 512, and
    // those up to 516), which are not meant for programs and yet reach them.
    bool interrupted() const noexcept {
        return res_ == -ECANCELED || res_ == -EINTR || (res_ <= -512 && res_ >= -516);
    }
    static void cancel_in_flight(cancel_hook& hook, stop_cause cause) noexcept;
    static void slot_cancelled(detail::slot_holder& holder) noexcept;
    static void token_stopped(void* self) noexcept;
    static void bridge_closed(void* self) noexcept;

    struct bridge_deleter {
        void operator()(detail::stop_bridge* bridge) const noexcept;
    };

    ring& loop_;
    std::stop_token stop_;
    std::coroutine_handle<> waiter_;
    detail::call_site site_;         // of the co_await
    std::int32_t res_ = -ECANCELED;  // what an operation stopped before it began reports
    stop_cause cause_ = stop_cause::none;
    bool refused_ = false;
    bool in_flight_ = false;
    // Only where a stop_token was given, and apart: it would be a third of the size of a request, which
    // lies in the frame of each connection.
    std::unique_ptr<detail::stop_bridge, bridge_deleter> bridge_;
};

}  // namespace kevring
