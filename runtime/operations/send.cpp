#include <kevring/runtime/operations/send.hpp>

#include <kevring/runtime/detail/byte_count.hpp>
#include <kevring/runtime/detail/large_copy.hpp>
#include <kevring/runtime/detail/uring.hpp>
#include <kevring/runtime/detail/warm_bytes.hpp>

#include <algorithm>
#include <cerrno>

namespace kevring {
namespace detail {

[[gnu::tls_model("initial-exec")]] constinit thread_local bool bytes_are_warm = false;

// The kernel reports a short count after 0x7ffff000 bytes, and after an error, a signal or a cancel
// that came behind the first byte. Only a further step tells which: it sends the rest, or fails.
void send_steps::complete(std::int32_t res, std::uint32_t flags) noexcept {
    if (res >= 0) {
        bytes_sent_ += static_cast<std::size_t>(res);
        if (!advance(static_cast<std::size_t>(res))) {
            complete_ = true;
        } else if (res == 0) {
            res = -EIO;  // no such answer is known; without an error this would never end
        } else if (stop_requested()) {
            res = -ECANCELED;
        } else {
            queue_again();
            return;
        }
    }
    operation::complete(res, flags);  // last: the frame, and this object in it, may be destroyed
}

send_result send_steps::await_resume() const noexcept {
    if (complete_) return send_result(bytes_sent_);
    return send_result(failure(), bytes_sent_);
}

}  // namespace detail

// True when all bytes have been sent. The ring sends what the socket does not take at once, and
// reports errors.
bool send_operation::sendmsg_nowait() noexcept {
    detail::bytes_are_warm = false;
    iovec part{const_cast<std::byte*>(bytes_.data()), bytes_.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    const ssize_t count = loop().system().sendmsg_nowait(socket().number(), message, flags());
    if (count <= 0) return false;
    count_sent(static_cast<std::size_t>(count));
    return !advance(static_cast<std::size_t>(count));
}

bool send_operation::sends_all_now(const cancel_scope* scope) noexcept {
    if (!detail::bytes_are_warm) return false;
    if (scope == nullptr) scope = &loop().root_scope();
    // The ring decides on a stop, another send and the wrong thread.
    if (stoppable_ || scope->stop_requested() || (sending_ != nullptr && sending_->taken()) ||
        !loop().on_ring_thread() || !detail::spend_large_copy(loop()) || !sendmsg_nowait())
        return false;
    set_complete();
    return true;
}

void send_operation::prepare(io_uring_sqe& sqe) noexcept {
    // Not again what sends_all_now() has tried.
    if (bytes_.size() >= sent_now_bytes_min && bytes_sent() == 0 && detail::bytes_are_warm &&
        sendmsg_nowait()) {
        io_uring_prep_nop(&sqe);
        return;
    }
    io_uring_prep_send(&sqe, socket().number(), bytes_.data(), detail::byte_count(bytes_.size()),
                       flags());
}

bool send_operation::advance(std::size_t byte_count) noexcept {
    bytes_ = bytes_.subspan(std::min(byte_count, bytes_.size()));
    return !bytes_.empty();
}

void send_message_operation::prepare(io_uring_sqe& sqe) noexcept {
    const msghdr* message = message_;
    int step_flags = flags();
    if (bytes_sent() > 0) {
        rest_ = *message_;
        rest_.msg_control = nullptr;
        rest_.msg_controllen = 0;
        rest_.msg_iov += part_index_;
        rest_.msg_iovlen -= part_index_;
        if (part_offset_ > 0) {  // the rest of one part alone, then all further parts
            if (rest_.msg_iovlen > 1) step_flags |= MSG_MORE;
            part_ = *rest_.msg_iov;
            part_.iov_base = static_cast<std::byte*>(part_.iov_base) + part_offset_;
            part_.iov_len -= part_offset_;
            rest_.msg_iov = &part_;
            rest_.msg_iovlen = 1;
        }
        message = &rest_;
    }
    io_uring_prep_sendmsg(&sqe, socket().number(), message, static_cast<unsigned>(step_flags));
}

bool send_message_operation::advance(std::size_t byte_count) noexcept {
    while (part_index_ < message_->msg_iovlen) {
        const std::size_t left = message_->msg_iov[part_index_].iov_len - part_offset_;
        if (byte_count < left) {
            part_offset_ += byte_count;
            return true;
        }
        byte_count -= left;
        part_offset_ = 0;
        ++part_index_;
    }
    return false;
}

}  // namespace kevring
