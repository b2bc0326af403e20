#include <kevring/sendfile/detail/zero_copy_send.hpp>

#include <kevring/runtime/assert.hpp>
#include <kevring/runtime/detail/byte_count.hpp>
#include <kevring/runtime/detail/uring.hpp>

#include <cerrno>
#include <utility>

#include <sys/socket.h>

namespace kevring::detail {

bool zero_copy_send::wait(std::coroutine_handle<> waiter, cancel_scope* scope,
                          bool wait_for_release) noexcept {
    KEVRING_ASSERT(!waiter_,
                   "internal error: zero-copy send awaited twice or detached while awaited; report "
                   "it with the call that led to it");
    KEVRING_ASSERT(begun_ == wait_for_release,
                   "internal error: zero-copy send awaited out of order; report it with the call "
                   "that led to it");
    if (scope != nullptr) {
        if (scope->stop_requested()) {
            cause_ = scope->cause();
            return false;
        }
        scope->add(*this);
    }
    waiter_ = waiter;
    waits_for_release_ = wait_for_release;
    if (!begun_) {
        begun_ = true;
        loop_.queue(*this);
    }
    return true;
}

void zero_copy_send::prepare(io_uring_sqe& sqe) noexcept {
    sqe.opcode = IORING_OP_SEND_ZC;
    sqe.fd = socket_.number();
    sqe.addr = reinterpret_cast<std::uintptr_t>(bytes_.data());
    sqe.len = byte_count(bytes_.size());
    sqe.msg_flags = static_cast<std::uint32_t>(MSG_WAITALL | MSG_NOSIGNAL | (more_ ? MSG_MORE : 0));
    sqe.ioprio = send_zero_copy_report_usage;
    if (const fixed_buffer* const fixed = window_->fixed()) {
        sqe.ioprio |= IORING_RECVSEND_FIXED_BUF;
        sqe.buf_index = fixed->index();
    }
}

void zero_copy_send::complete(std::int32_t res, std::uint32_t flags) noexcept {
    if ((flags & IORING_CQE_F_NOTIF) != 0) {
        released_ = true;
        copied_ = (static_cast<std::uint32_t>(res) & notification_copied) != 0;
    } else {
        sent_ = true;
        res_ = res;
        if ((flags & IORING_CQE_F_MORE) == 0) released_ = true;  // no byte was accepted
    }
    if (detached_) {
        if (!released_) return;
        loop_.detached_completed(*this);
        delete this;
        return;
    }
    if (!waiter_ || scheduled_ || (waits_for_release_ && !released_)) return;
    unlink();
    std::exchange(waiter_, {}).resume();  // last: this may be destroyed on return
}

void zero_copy_send::stopped(cancel_hook& hook, stop_cause cause) noexcept {
    auto& self = static_cast<zero_copy_send&>(hook);
    if (self.scheduled_) return;
    self.cause_ = cause;
    if (!self.waits_for_release_) {
        self.loop_.queue_cancel(self);
        return;
    }
    // No cancel speeds up an acknowledgement: the waiter resumes, and the kernel keeps the memory.
    self.scheduled_ = true;
    self.loop_.schedule(self);
}

void zero_copy_send::resumed(work& item) noexcept {
    auto& self = static_cast<zero_copy_send&>(item);
    self.scheduled_ = false;
    self.unlink();
    std::exchange(self.waiter_, {}).resume();  // last: this may be destroyed on return
}

result<std::size_t> zero_copy_send::awaiter::await_resume() const noexcept {
    const bool given_up =
        wait_for_release_ ? !send_.released_ : !send_.sent_ || send_.res_ == -ECANCELED;
    if (given_up)
        return error_from(send_.cause_ == stop_cause::deadline ? std::errc::timed_out
                                                               : std::errc::operation_canceled);
    if (send_.res_ < 0) return error_from(send_.res_);
    return static_cast<std::size_t>(send_.res_);
}

void zero_copy_send::detach() noexcept {
    KEVRING_ASSERT(!waiter_,
                   "internal error: zero-copy send awaited twice or detached while awaited; report "
                   "it with the call that led to it");
    if (!begun_ || released_) {
        delete this;
        return;
    }
    detached_ = true;
    loop_.detach(*this);
}

}  // namespace kevring::detail
