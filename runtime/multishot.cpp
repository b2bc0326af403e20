#include <kevring/runtime/multishot.hpp>

#include <kevring/runtime/detail/uring.hpp>

#include <cerrno>

namespace kevring::detail {

// Hot path: no allocation, no mutex, no system call.

void multishot_state::complete(std::int32_t res, std::uint32_t flags) noexcept {
    if ((flags & IORING_CQE_F_MORE) == 0) armed_ = false;
    // An answer that comes with a buffer owes it back, also where it is a failure.
    if (res >= 0 || (flags & IORING_CQE_F_BUFFER) != 0) arrived(res, flags);
    if (detached_) [[unlikely]] {
        drop_items();
        if (!armed_) delete this;
        return;
    }
    if (res < 0) {
        const bool paused = pausing_ && res == -ECANCELED;
        if (!paused && !is_passing(res)) error_ = res;
    }
    if (!armed_) pausing_ = false;
    if (waiter_ != nullptr) {
        if (has_item() || error_ != 0) {
            std::exchange(waiter_, nullptr)->resume();  // last: the stream may be gone on return
            return;
        }
        if (armed_) return;
        if (!finished_) {
            arm();
            return;
        }
        error_ = -ECANCELED;
        std::exchange(waiter_, nullptr)->resume();  // last: as above
        return;
    }
    if (armed_ && !pausing_ && is_full()) {
        pausing_ = true;
        ring_.queue_cancel(*this);
    }
}

void multishot_state::arm() noexcept {
    if (!may_arm()) return;
    armed_ = true;
    ring_.queue(*this);
}

void multishot_state::arm_waiting() noexcept {
    if (waiter_ != nullptr && !armed_ && !finished_) arm();
}

bool multishot_state::is_passing(std::int32_t) noexcept { return false; }

void multishot_state::detach() noexcept {
    KEVRING_ASSERT(waiter_ == nullptr,
                   "socket or stream destroyed while an await on it is pending; stop and join the "
                   "awaiting task first");
    detached_ = true;
    drop_items();
    if (!armed_) {
        delete this;
        return;
    }
    if (!pausing_) ring_.queue_cancel(*this);
}

void multishot_state::finish() noexcept {
    if (std::exchange(finished_, true)) return;
    if (armed_) {
        if (!pausing_) ring_.queue_cancel(*this);
        pausing_ = true;
    } else if (waiter_ != nullptr) {  // it waits for what it needs to be armed
        next_awaiter::stopped(*waiter_, stop_cause::stopped);
    }
}

bool next_awaiter::start(std::coroutine_handle<> waiter, cancel_scope* scope) noexcept {
    KEVRING_ASSERT(
        of_.ring_.on_ring_thread(),
        "stream awaited on a thread that does not drive its ring; await it in a task of that ring");
    KEVRING_ASSERT(of_.waiter_ == nullptr,
                   "stream awaited by two tasks at once; let one task await it at a time");
    KEVRING_ASSERT(!waiter_, "next item of a stream awaited twice; call next() once per await");
    if (of_.has_item()) {  // its turn in the loop is used up
        waiter_ = waiter;
        of_.ring_.schedule(*this);
        return true;
    }
    if (scope == nullptr) scope = &of_.ring_.root_scope();  // a coroutine of others
    if (scope->stop_requested()) {
        cause_ = scope->cause();
        return false;
    }
    if (of_.error_ != 0) {
        error_ = std::exchange(of_.error_, 0);
        return false;
    }
    if (of_.finished_ && !of_.armed_) {
        cause_ = stop_cause::stopped;
        return false;
    }
    waiter_ = waiter;
    of_.waiter_ = this;
    scope->add(*this);
    if (!of_.armed_) of_.arm();
    return true;
}

void next_awaiter::resume() noexcept {
    if (!of_.has_item()) error_ = std::exchange(of_.error_, 0);
    cancel_hook::unlink();
    waiter_.resume();  // last: the frame, and this object in it, may be gone on return
}

void next_awaiter::stopped(cancel_hook& hook, stop_cause cause) noexcept {
    auto& self = static_cast<next_awaiter&>(hook);
    if (self.of_.waiter_ != &self) return;  // it has been stopped already, or is about to resume
    self.of_.waiter_ = nullptr;
    self.of_.forget_arming();
    self.cause_ = cause;
    self.of_.ring_.schedule(self);
}

void next_awaiter::resumed_later(work& item) noexcept { static_cast<next_awaiter&>(item).resume(); }

bool next_awaiter::leave() noexcept {
    if (of_.has_item()) return true;
    if (error_ == 0) return false;
    if (of_.error_ == 0) of_.error_ = error_;
    return true;
}

tl::unexpected<std::error_code> next_awaiter::failure() const noexcept {
    if (error_ != 0) return error_from(error_);
    return error_from(cause_ == stop_cause::deadline ? std::errc::timed_out
                                                     : std::errc::operation_canceled);
}

}  // namespace kevring::detail
