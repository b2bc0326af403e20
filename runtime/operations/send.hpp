// send.hpp: bytes to a connected socket, from one buffer or several.
#pragma once

#include <kevring/runtime/assert.hpp>
#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/operation.hpp>

#include <coroutine>
#include <cstddef>
#include <optional>
#include <span>
#include <utility>

#include <sys/socket.h>
#include <sys/uio.h>

namespace kevring {

/// The result of a send: the number of bytes, which is all of them, or an error. With an error,
/// bytes_sent() is the number of bytes that the kernel accepted before it. The rest of the message
/// can be sent later, and must be, if the stream is to be used further.
class [[nodiscard]] send_result : public result<std::size_t> {
public:
    send_result() noexcept = default;
    send_result(std::size_t byte_count) noexcept
        : result<std::size_t>(byte_count), bytes_sent_(byte_count) {}
    send_result(tl::unexpected<std::error_code> error, std::size_t bytes_sent) noexcept
        : result<std::size_t>(std::move(error)), bytes_sent_(bytes_sent) {}

    /// The bytes that the kernel accepted, with or without an error.
    std::size_t bytes_sent() const noexcept { return bytes_sent_; }

private:
    std::size_t bytes_sent_ = 0;
};

namespace detail {

/// The common part of requests that send all of their bytes, in as many steps as the kernel needs.
class send_steps : public operation {
public:
    send_steps(send_steps&& other) noexcept
        : operation(std::move(other)), socket_(other.socket_), flags_(other.flags_) {}

    [[nodiscard]] send_result await_resume() const noexcept;

    void complete(std::int32_t res, std::uint32_t flags) noexcept final;

protected:
    send_steps(ring& loop, fd_ref socket, int flags, std::stop_token stop) noexcept
        : operation(loop, std::move(stop)), socket_(socket), flags_(flags) {}
    ~send_steps() = default;

    fd_ref socket() const noexcept { return socket_; }
    int flags() const noexcept { return flags_ | MSG_WAITALL | MSG_NOSIGNAL; }
    std::size_t bytes_sent() const noexcept { return bytes_sent_; }
    /// Counts bytes that prepare() has sent itself.
    void count_sent(std::size_t byte_count) noexcept { bytes_sent_ += byte_count; }
    /// All bytes are sent, and the kernel is not asked.
    void set_complete() noexcept { complete_ = true; }

private:
    /// The kernel has accepted `byte_count` bytes of the last step; true when bytes are left.
    virtual bool advance(std::size_t byte_count) noexcept = 0;

    fd_ref socket_;
    int flags_;
    bool complete_ = false;
    std::size_t bytes_sent_ = 0;
};

}  // namespace detail

/// Sends all of `bytes` to a connected stream socket. A disconnected peer raises no signal.
///
/// Result     The number of bytes, which is all of them, however many there are.
/// Errors     operation_canceled, timed_out; broken_pipe, connection_reset; bad_file_descriptor for
///            a socket that was closed, released or moved from; connection_already_in_progress,
///            and no byte sent, for the second of two sends at once on a `socket` object; else those
///            of send(2). send_result::bytes_sent() is the number of bytes sent before the error.
/// Lifetime   `socket` stays open and `bytes` stay valid until the await completes.
/// Thread     The loop's thread.
/// In flight  At most one receive and one send per socket.
/// Kernel     IORING_OP_SEND with MSG_WAITALL, Linux 5.19. One request sends at most 0x7ffff000
///            bytes; the rest follows in further requests.
class [[nodiscard]] send_operation final : public detail::send_steps {
public:
    /// `flags` as for send(2), such as MSG_MORE.
    send_operation(ring& loop, fd_ref socket, std::span<const std::byte> bytes, int flags = 0,
                   std::stop_token stop = {}) noexcept
        : send_steps(loop, socket, flags, stop), bytes_(bytes), stoppable_(stop.stop_possible()) {}
    /// The same where one await may be pending; see detail::pending_slot.
    send_operation(ring& loop, fd_ref socket, std::span<const std::byte> bytes, int flags,
                   detail::pending_slot& sending, std::stop_token stop) noexcept
        : send_operation(loop, socket, bytes, flags, std::move(stop)) {
        hold(sending);
        sending_ = &sending;
    }

    /// A large message that follows a receive or a read is sent at once as far as the socket takes
    /// it; where that is all of it, the await does not suspend.
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> waiter,
                       detail::call_site site = detail::call_site::current()) noexcept {
        if (bytes_.size() >= sent_now_bytes_min && sends_all_now(scope_of(waiter))) return false;
        return operation::await_suspend(waiter, site);
    }

    void prepare(io_uring_sqe& sqe) noexcept override;

private:
    // A large message that has just come is in the processor's caches; with the next enter it would
    // no longer be. Smaller ones, and those of a source, cost less in one batch.
    static constexpr std::size_t sent_now_bytes_min = std::size_t{48} << 10;

    bool advance(std::size_t byte_count) noexcept override;
    bool sends_all_now(const cancel_scope* scope) noexcept;
    bool sendmsg_nowait() noexcept;

    std::span<const std::byte> bytes_;               // that are left
    const detail::pending_slot* sending_ = nullptr;  // where one await may be pending
    bool stoppable_;                                 // by a stop_token
};

/// Sends all bytes of several buffers, or a message with an address or control data; see
/// send_operation. Control data goes with the first byte.
///
/// Lifetime   `socket` stays open, and `message` and all that it refers to stays valid, until the
///            await completes.
/// Kernel     IORING_OP_SENDMSG with MSG_WAITALL, Linux 5.19; at most IOV_MAX parts.
class [[nodiscard]] send_message_operation final : public detail::send_steps {
public:
    send_message_operation(ring& loop, fd_ref socket, const msghdr& message, int flags = 0,
                           std::stop_token stop = {}) noexcept
        : send_steps(loop, socket, flags, std::move(stop)), message_(&message) {}
    /// The same where one await may be pending; see detail::pending_slot.
    send_message_operation(ring& loop, fd_ref socket, const msghdr& message, int flags,
                           detail::pending_slot& sending) noexcept
        : send_message_operation(loop, socket, message, flags) {
        hold(sending);
    }

    void prepare(io_uring_sqe& sqe) noexcept override;

private:
    bool advance(std::size_t byte_count) noexcept override;

    const msghdr* message_;
    // Set after a step that ended within the message.
    std::size_t part_index_ = 0;   // of the first part with bytes that are left
    std::size_t part_offset_ = 0;  // bytes of that part that were sent
    iovec part_{};
    msghdr rest_{};
};

}  // namespace kevring
