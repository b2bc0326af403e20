// send.hpp: bytes into a connected socket, from one buffer or several.
#pragma once

#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/operation.hpp>

#include <cstddef>
#include <span>

struct msghdr;

namespace kevring {

/// Sends all of `bytes` to a connected stream socket; a peer that is gone raises no signal.
///
/// Result     The bytes sent: all of them, or fewer when an error, a stop or a deadline came after
///            the first of them. What is missing then has not been sent.
/// Errors     operation_canceled, timed_out; broken_pipe, connection_reset; else those of send(2).
/// Lifetime   `socket` stays open and `bytes` stay valid until the await ends.
/// In flight  One receive and one send per socket.
/// Kernel     IORING_OP_SEND with MSG_WAITALL, Linux 5.19.
class [[nodiscard]] send_operation final : public operation {
public:
    /// `flags` as for send(2), such as MSG_MORE.
    send_operation(ring& on, fd_ref socket, std::span<const std::byte> bytes, int flags = 0,
                   std::stop_token stop = {}) noexcept
        : operation(on, std::move(stop)), socket_(socket), flags_(flags), bytes_(bytes) {}

    [[nodiscard]] result<std::size_t> await_resume() const noexcept { return count_or_failure(); }
    void prepare(io_uring_sqe& sqe) noexcept override;

private:
    fd_ref socket_;
    int flags_;
    std::span<const std::byte> bytes_;
};

/// Sends several buffers, or a message with an address or control data; see send_operation.
///
/// Lifetime   `socket` stays open, and `message` and all that it names stays valid, until the await
///            ends.
/// Kernel     IORING_OP_SENDMSG with MSG_WAITALL, Linux 5.19.
class [[nodiscard]] send_message_operation final : public operation {
public:
    send_message_operation(ring& on, fd_ref socket, const msghdr& message, int flags = 0,
                           std::stop_token stop = {}) noexcept
        : operation(on, std::move(stop)), socket_(socket), flags_(flags), message_(&message) {}

    [[nodiscard]] result<std::size_t> await_resume() const noexcept { return count_or_failure(); }
    void prepare(io_uring_sqe& sqe) noexcept override;

private:
    fd_ref socket_;
    int flags_;
    const msghdr* message_;
};

}  // namespace kevring
