// receive.hpp: bytes out of a connected socket, into the caller's memory or the pool's.
#pragma once

#include <kevring/runtime/buffer_pool.hpp>
#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/multishot.hpp>
#include <kevring/runtime/operation.hpp>

#include <cerrno>
#include <cstddef>
#include <span>

namespace kevring {

/// Receives at least one and at most `buffer.size()` bytes from a connected stream socket.
///
/// Result     The bytes received; 0 once the peer has shut down its sending side.
/// Errors     operation_canceled, timed_out; connection_reset; invalid_argument for an empty
///            `buffer`; else those of recv(2).
/// Lifetime   `socket` stays open and `buffer` stays valid until the await ends.
/// In flight  One receive and one send per socket.
/// Kernel     IORING_OP_RECV, Linux 5.6.
class [[nodiscard]] receive_operation final : public operation {
public:
    /// `flags` as for recv(2), such as MSG_PEEK or MSG_WAITALL.
    receive_operation(ring& loop, fd_ref socket, std::span<std::byte> buffer, int flags = 0,
                      std::stop_token stop = {}) noexcept
        : operation(loop, std::move(stop)), socket_(socket), flags_(flags), buffer_(buffer) {
        if (buffer.empty()) refuse(EINVAL);  // 0 bytes mean that the peer has ended
    }
    /// The same where one await may be pending; see detail::pending_slot.
    receive_operation(ring& loop, fd_ref socket, std::span<std::byte> buffer,
                      detail::pending_slot& receiving, std::stop_token stop) noexcept
        : receive_operation(loop, socket, buffer, 0, std::move(stop)) {
        hold(receiving);
    }

    [[nodiscard]] result<std::size_t> await_resume() const noexcept { return count_or_failure(); }
    void prepare(io_uring_sqe& sqe) noexcept override;

private:
    fd_ref socket_;
    int flags_;
    std::span<std::byte> buffer_;
};

/// All bytes of a connected stream socket, received by one request into buffers of a pool.
///
///     receive_stream bytes(ring, socket, pool);
///     while (true) {
///         auto got = co_await bytes.next();
///         if (!got || got->empty()) break;
///         use(got->bytes());
///     }
///
/// Result     Each next() gives a buffer with at least one byte, in the order of arrival; an empty
///            one once the peer has shut down its sending side.
/// Errors     Of next(): operation_canceled and timed_out by the scope around it, and then no byte
///            is lost; connection_reset; no_buffer_space when the pool has been destroyed; else
///            those of recv(2). Bytes that came before an error are given first.
/// Lifetime   `socket` stays open as long as the stream. A pool may go earlier.
/// Thread     The ring's own.
/// In flight  One next() at a time; another ends with connection_already_in_progress. When a few
/// buffers wait to be taken the request is paused, so
///            that one fast peer cannot take the pool from all others. Where many do, what waits
///            is copied out of the pool when others find no buffer.
/// Kernel     IORING_OP_RECV with IORING_RECV_MULTISHOT, Linux 6.0.
class receive_stream : public multishot_stream {
public:
    receive_stream(ring& loop, fd_ref socket, buffer_pool& pool);
    /// From the ring's own pool.
    receive_stream(ring& loop, fd_ref socket);

    class [[nodiscard]] next_operation final : public next_base {
    public:
        using next_base::next_base;
        [[nodiscard]] result<borrowed_buffer> await_resume() noexcept;
    };
    next_operation next() noexcept { return next_operation(state_); }

    class [[nodiscard]] pieces_operation final : public next_base {
    public:
        pieces_operation(detail::multishot_state* state, std::span<borrowed_buffer> pieces) noexcept
            : next_base(state), pieces_(pieces) {}
        [[nodiscard]] result<std::size_t> await_resume() noexcept;

    private:
        std::span<borrowed_buffer> pieces_;
    };
    /// Waits as next() does, and gives all that has arrived, in order, in as many of `pieces` as it
    /// needs, so that one request can send it on.
    ///
    /// Result     The number of pieces; 0 once the peer has shut down its sending side, and where
    ///            `pieces` is empty.
    /// Lifetime   `pieces` stay valid until the await ends.
    pieces_operation next_pieces(std::span<borrowed_buffer> pieces) noexcept {
        return pieces_operation(state_, pieces);
    }

    /// Ends the next() that is pending, if there is one, with operation_canceled.
    void stop_next() noexcept {
        if (state_ != nullptr) state_->stop_wait();
    }

    /// Receives no more. next() gives the bytes that the kernel has taken from the socket until it
    /// has ended the request, and then operation_canceled: none is lost where another loop or
    /// process continues with the socket.
    void stop_receiving() noexcept { state_->close(); }

    /// Puts `bytes` before all that arrives: they are copied, and next() gives them first. For a stream
    /// of which no next() has been awaited yet.
    ///
    /// Errors     std::bad_alloc; nothing is added then.
    void prepend(std::span<const std::byte> bytes);

private:
    class state;
    friend class next_operation;
};

}  // namespace kevring
