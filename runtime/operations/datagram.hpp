// datagram.hpp: single messages with their addresses, out of and into a datagram socket.
#pragma once

#include <kevring/runtime/buffer_pool.hpp>
#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/multishot.hpp>
#include <kevring/runtime/operation.hpp>

#include <cstddef>
#include <span>

#include <sys/socket.h>

namespace kevring {

/// Receives one message with its address and control data.
///
/// Result     The number of bytes in the buffers; 0 for an empty datagram, and for a stream whose peer
///            has shut down its sending side. `message` has the address, the control data, and the
///            flags MSG_TRUNC and MSG_CTRUNC.
/// Errors     operation_canceled, timed_out; connection_refused for a connected UDP socket whose last
///            message found no receiver; otherwise as for recvmsg(2).
/// Lifetime   `socket` stays open, and `message` and all that it refers to stays valid, until the await
///            completes.
/// Kernel     IORING_OP_RECVMSG, Linux 5.3.
class [[nodiscard]] receive_message_operation final : public operation {
public:
    /// `flags` as for recvmsg(2), such as MSG_PEEK or MSG_CMSG_CLOEXEC.
    receive_message_operation(ring& loop, fd_ref socket, msghdr& message, int flags = 0,
                              std::stop_token stop = {}) noexcept
        : operation(loop, std::move(stop)), socket_(socket), message_(&message), flags_(flags) {}

    [[nodiscard]] result<std::size_t> await_resume() const noexcept { return count_or_failure(); }
    void prepare(io_uring_sqe& sqe) noexcept override;

private:
    fd_ref socket_;
    msghdr* message_;
    int flags_;
};

/// Sends one message in one piece, with the address and control data that `message` has.
///
/// Result     The number of bytes.
/// Errors     operation_canceled, timed_out; message_size for more bytes than a datagram can have;
///            network_unreachable, connection_refused; otherwise as for sendmsg(2). No signal is
///            raised.
/// Lifetime   `socket` stays open, and `message` and all that it refers to stays valid, until the await
///            completes.
/// Kernel     IORING_OP_SENDMSG, Linux 5.3.
class [[nodiscard]] send_datagram_operation final : public operation {
public:
    send_datagram_operation(ring& loop, fd_ref socket, const msghdr& message, int flags = 0,
                            std::stop_token stop = {}) noexcept
        : operation(loop, std::move(stop)), socket_(socket), message_(&message), flags_(flags) {}

    [[nodiscard]] result<std::size_t> await_resume() const noexcept { return count_or_failure(); }
    void prepare(io_uring_sqe& sqe) noexcept override;

private:
    fd_ref socket_;
    const msghdr* message_;
    int flags_;
};

/// One message in a buffer of a pool.
struct pooled_message {
    std::span<const std::byte> address;  // of the sender, as the kernel wrote it
    std::span<const std::byte> control;  // for CMSG_FIRSTHDR and the like
    int flags = 0;                       // MSG_TRUNC: the end of the message did not fit
    std::span<std::byte> payload;        // may be empty
    borrowed_buffer memory;              // of all of them
};

/// All messages of a datagram socket, received by one request into buffers of a pool.
///
/// Result     Each next() gives a message, in the order of arrival. An empty one is not the end; there
///            is no end.
/// Errors     Of next(): operation_canceled and timed_out by the scope around it, and then no message is
///            lost; no_buffer_space when the pool has been destroyed; otherwise as for recvmsg(2), and
///            the stream can be used further: connection_refused only reports an earlier send.
/// Lifetime   `socket` stays open as long as the stream. A pool may go earlier.
/// Thread     The loop's thread.
/// In flight  One next() at a time; another ends with connection_already_in_progress. When 64 messages
///            wait to be taken the request is paused; then the kernel keeps what fits into the socket's
///            buffer, and drops the rest.
/// Kernel     IORING_OP_RECVMSG with IORING_RECV_MULTISHOT, Linux 6.0.
class message_stream : public multishot_stream {
public:
    /// A buffer of the pool holds `control_bytes` of control data, 128 bytes of an address, 16 of a
    /// header, and the payload.
    message_stream(ring& loop, fd_ref socket, buffer_pool& pool, std::size_t control_bytes = 0);

    class [[nodiscard]] next_operation final : public next_base {
    public:
        using next_base::next_base;
        [[nodiscard]] result<pooled_message> await_resume() noexcept;
    };
    next_operation next() noexcept { return next_operation(state_); }

    /// Ends the next() that is pending, if there is one, with operation_canceled.
    void stop_next() noexcept {
        if (state_ != nullptr) state_->stop_wait();
    }

private:
    class state;
    friend class next_operation;
};

}  // namespace kevring
