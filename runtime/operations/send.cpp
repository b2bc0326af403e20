#include <kevring/runtime/operations/send.hpp>

#include <kevring/runtime/detail/byte_count.hpp>
#include <kevring/runtime/detail/uring.hpp>

#include <sys/socket.h>

namespace kevring {

void send_operation::prepare(io_uring_sqe& sqe) noexcept {
    io_uring_prep_send(&sqe, socket_.number(), bytes_.data(), detail::byte_count(bytes_.size()),
                       flags_ | MSG_WAITALL | MSG_NOSIGNAL);
}

void send_message_operation::prepare(io_uring_sqe& sqe) noexcept {
    io_uring_prep_sendmsg(&sqe, socket_.number(), message_,
                          static_cast<unsigned>(flags_ | MSG_WAITALL | MSG_NOSIGNAL));
}

}  // namespace kevring
