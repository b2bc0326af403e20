#include <kevring/sendfile/detail/zero_copy_send.hpp>

#include <kevring/runtime/assert.hpp>
#include <kevring/runtime/detail/byte_count.hpp>
#include <kevring/runtime/detail/uring.hpp>

#include <cerrno>
#include <utility>

#include <sys/socket.h>

namespace kevring::detail {

bool zero_copy_send::wait(std::coroutine_handle<> waiter, cancel_scope* scope,
                          bool until_released) noexcept {
    KEVRING_ASSERT(!waiter_,
                   "internal error: zero-copy send awaited twice or detached while awaited; report "
                   "it with the call that led to it");
    KEVRING_ASSERT(begun_ == until_released,
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
    waits_for_release_ = until_released;
    if (!begun_) {
        begun_ = true;
        ring_.queue(*this);
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
        copied_ = (static_cast<std::uint32_t>(res) & notice_of_copy) != 0;
    } else {
        sent_ = true;
        res_ = res;
        if ((flags & IORING_CQE_F_MORE) == 0) released_ = true;  // nothing was taken
    }
    if (detached_) {
        if (!released_) return;
        ring_.late_came(*this);
        delete this;
        return;
    }
    if (!waiter_ || scheduled_ || (waits_for_release_ && !released_)) return;
    unlink();
    std::exchange(waiter_, {}).resume();  // last: this may be gone on return
}

void zero_copy_send::stopped(cancel_hook& hook, stop_cause cause) noexcept {
    auto& self = static_cast<zero_copy_send&>(hook);
    if (self.scheduled_) return;
    self.cause_ = cause;
    if (!self.waits_for_release_) {
        self.ring_.queue_cancel(self);
        return;
    }
    // Nothing hurries an acknowledgement: the waiter goes, the memory stays with the kernel.
    self.scheduled_ = true;
    self.ring_.schedule(self);
}

void zero_copy_send::resumed(work& item) noexcept {
    auto& self = static_cast<zero_copy_send&>(item);
    self.scheduled_ = false;
    self.unlink();
    std::exchange(self.waiter_, {}).resume();  // last: this may be gone on return
}

result<std::size_t> zero_copy_send::step::await_resume() const noexcept {
    const bool given_up = until_released_ ? !of_.released_ : !of_.sent_ || of_.res_ == -ECANCELED;
    if (given_up)
        return error_from(of_.cause_ == stop_cause::deadline ? std::errc::timed_out
                                                             : std::errc::operation_canceled);
    if (of_.res_ < 0) return error_from(of_.res_);
    return static_cast<std::size_t>(of_.res_);
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
    ring_.expect_late(*this);
}

}  // namespace kevring::detail
