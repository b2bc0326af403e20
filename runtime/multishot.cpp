#include <kevring/runtime/multishot.hpp>

#include <kevring/runtime/detail/large_copy.hpp>
#include <kevring/runtime/detail/uring.hpp>

#include <cerrno>

namespace kevring::detail {

// Hot path: no allocation, no mutex, no system call.

// False also for a wait that has its item and is in the run queue.
bool multishot_state::waits_for_kernel() const noexcept {
    return waiter_ != nullptr && !waiter_->scheduled_;
}

void multishot_state::complete(std::int32_t res, std::uint32_t flags) noexcept {
    if ((flags & IORING_CQE_F_MORE) == 0) request_ended();
    // An answer that comes with a buffer owes it back, also where it is a failure.
    if (res >= 0 || (flags & IORING_CQE_F_BUFFER) != 0) store_item(res, flags);
    if (detached_) [[unlikely]] {
        drop_items();
        if (!armed_) delete this;
        return;
    }
    if (res < 0) {
        // Kernels before 6.5 end a cancelled receive with ENOBUFS.
        const bool paused = pausing_ && (res == -ECANCELED || res == -ENOBUFS);
        if (!paused && !is_transient(res)) error_ = res;
    }
    if (!armed_) pausing_ = false;
    if (armed_ && !pausing_ && is_outgrown()) [[unlikely]] {
        pausing_ = true;
        loop_.queue_cancel(*this);
    }
    if (waits_for_kernel()) {
        if (!has_item() && error_ == 0) {
            if (armed_) return;
            if (finished_)
                error_ = -ECANCELED;
            else if (!fetch() && arm())
                return;
        }
        waiter_->resume();  // last: the stream may be gone on return
        return;
    }
    if (armed_ && !pausing_ && is_full()) {
        pausing_ = true;
        loop_.queue_cancel(*this);
    }
}

// False: the request can never be armed again, and `error_` says why.
bool multishot_state::arm() noexcept {
    error_ = arming_error();
    if (error_ != 0) return false;
    if (!may_arm()) return true;
    armed_ = true;
    armed();
    entry_index_ = loop_.queue(*this);
    return true;
}

void multishot_state::request_ended() noexcept {
    armed_ = false;
    disarmed();
}

void multishot_state::arm_for_waiter() noexcept {
    if (!waits_for_kernel() || armed_ || finished_ || arm()) return;
    waiter_->scheduled_ = true;  // the caller is in the middle of something else
    loop_.schedule(*waiter_);
}

bool multishot_state::is_transient(std::int32_t) noexcept { return false; }

// Takes back a request that the kernel has not seen: it names a descriptor that may be closed, and
// whose number may be given to another file, before the kernel sees the entry.
void multishot_state::withdraw() noexcept {
    if (!armed_ || !loop_.withdraw(*this, entry_index_)) return;
    request_ended();
    pausing_ = false;
}

void multishot_state::detach() noexcept {
    KEVRING_ASSERT(waiter_ == nullptr || loop_.created_by_parent_process(),
                   "socket or stream destroyed while an await on it is pending; stop and join the "
                   "awaiting task first");
    for (; leaving_ != nullptr; leaving_ = leaving_->next_leaving_) leaving_->state_ = nullptr;
    detached_ = true;
    if (waiter_ != nullptr) return;
    drop_items();
    withdraw();
    if (!armed_) {
        delete this;
        return;
    }
    if (!pausing_) loop_.queue_cancel(*this);
}

void multishot_state::stop_wait() noexcept {
    if (waiter_ == nullptr) return;
    if (!waiter_->scheduled_) {
        next_awaiter::stopped(*waiter_, stop_cause::stopped);
        return;
    }
    waiter_->cause_ = stop_cause::stopped;  // unless its item is still there when it resumes
    waiter_->next_leaving_ = leaving_;
    leaving_ = std::exchange(waiter_, nullptr);
}

void multishot_state::close() noexcept {
    if (std::exchange(finished_, true)) return;
    if (armed_) {
        if (!pausing_) loop_.queue_cancel(*this);
        pausing_ = true;
    } else {
        stop_wait();  // which needs something to be armed
    }
}

bool next_awaiter::start(std::coroutine_handle<> waiter, cancel_scope* scope) noexcept {
    KEVRING_ASSERT(!waiter_, "next item of a stream awaited twice; call next() once per await");
    if (state_ == nullptr) {
        error_ = -EBADF;
        return false;
    }
    ring& loop = state_->loop_;
    KEVRING_ASSERT(
        loop.on_ring_thread(),
        "stream awaited on a thread that does not drive its ring; await it in a task of that ring");
    if (loop.created_by_parent_process()) [[unlikely]] {
        error_ = -EPERM;
        state_ = nullptr;
        return false;
    }
    if (state_->waiter_ != nullptr) {
        // Goes through the loop, so that a caller that tries again does not keep it from turning.
        error_ = -EALREADY;
        state_ = nullptr;
        waiter_ = waiter;
        loop.schedule(*this);
        return true;
    }
    if (state_->has_item()) return schedule_item(waiter);  // the inline budget is used up
    if (scope == nullptr) scope = &loop.root_scope();      // a coroutine of others
    if (scope->stop_requested()) {
        cause_ = scope->cause();
        if (loop.spend_inline_budget()) return false;
        state_ = nullptr;
        waiter_ = waiter;  // a coroutine that ignores its stop must not keep the loop
        loop.schedule(*this);
        return true;
    }
    if (state_->error_ != 0) {
        error_ = std::exchange(state_->error_, 0);
        return false;
    }
    if (state_->finished_ && !state_->armed_) {
        cause_ = stop_cause::stopped;
        return false;
    }
    if (!state_->armed_) {
        const bool fetched = state_->fetch();
        if (!fetched && state_->arm()) {
            // waits
        } else if (!state_->has_item()) {
            error_ = std::exchange(state_->error_, 0);
            return false;
        } else if (fetched ? spend_large_copy(loop) : loop.spend_inline_budget()) {
            return false;
        } else {
            return schedule_item(waiter);
        }
    }
    waiter_ = waiter;
    state_->waiter_ = this;
    scope->add(*this);
    return true;
}

bool next_awaiter::schedule_item(std::coroutine_handle<> waiter) noexcept {
    waiter_ = waiter;
    state_->waiter_ = this;
    scheduled_ = true;
    state_->loop_.schedule(*this);
    return true;
}

void next_awaiter::resume() noexcept {
    if (state_ != nullptr) leave_state();
    cancel_hook::unlink();
    waiter_.resume();  // last: the frame, and this object in it, may be gone on return
}

void next_awaiter::leave_state() noexcept {
    if (state_->waiter_ == this) {
        state_->waiter_ = nullptr;
        if (!state_->has_item()) error_ = std::exchange(state_->error_, 0);
        return;
    }
    next_awaiter** place = &state_->leaving_;
    while (*place != this) place = &(*place)->next_leaving_;
    *place = next_leaving_;
}

void next_awaiter::stopped(cancel_hook& hook, stop_cause cause) noexcept {
    auto& self = static_cast<next_awaiter&>(hook);
    if (self.scheduled_) return;  // it has been stopped already, or is about to resume
    multishot_state& state = *self.state_;
    state.waiter_ = nullptr;
    state.cancel_pending_arm();
    state.withdraw();
    self.cause_ = cause;
    self.scheduled_ = true;
    self.next_leaving_ = std::exchange(state.leaving_, &self);
    state.loop_.schedule(self);
}

void next_awaiter::resume_scheduled(work& item) noexcept {
    static_cast<next_awaiter&>(item).resume();
}

bool next_awaiter::leave() noexcept {
    if (state_ == nullptr) return false;  // a failure of this wait alone
    if (state_->has_item()) return true;
    if (error_ == 0) return false;
    if (state_->error_ == 0) state_->error_ = error_;
    return true;
}

tl::unexpected<std::error_code> next_awaiter::failure() const noexcept {
    if (error_ != 0) return error_from(error_);
    return error_from(cause_ == stop_cause::deadline ? std::errc::timed_out
                                                     : std::errc::operation_canceled);
}

}  // namespace kevring::detail
