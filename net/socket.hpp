// socket.hpp: a connected stream: TCP or Unix.
#pragma once

#include <kevring/net/endpoint.hpp>
#include <kevring/net/socket_options.hpp>
#include <kevring/runtime/byte_views.hpp>
#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/operations/receive.hpp>
#include <kevring/runtime/operations/send.hpp>
#include <kevring/runtime/operations/shutdown.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/task.hpp>

#include <chrono>
#include <cstddef>
#include <optional>
#include <span>
#include <stop_token>
#include <string_view>
#include <utility>
#include <vector>

namespace kevring {

/// A connection without a loop: the descriptor, and the bytes that were received and not taken. It
/// travels to another loop or thread, where `socket(loop, std::move(detached))` continues.
///
/// Thread     Any, one at a time.
class detached_socket {
public:
    explicit detached_socket(fd connected, std::vector<std::byte> bytes = {}) noexcept
        : descriptor(std::move(connected)), received(std::move(bytes)) {}

    fd descriptor;
    std::vector<std::byte> received;  // older than all that the descriptor gives
};

/// One end of a connection.
///
/// Lifetime   Outlives every await on it; within the life of its ring. The destructor closes the
///            connection; close() does it so that the peer surely gets what was sent.
/// Thread     The ring's own.
/// In flight  One receive and one send at a time. A second receive or send ends with
///            connection_already_in_progress.
///
/// On a socket that was moved from, released or closed every await gives bad_file_descriptor.
class socket {
public:
    socket(ring& loop, fd connected) noexcept : loop_(&loop), fd_(std::move(connected)) {}
    /// Continues a connection that detach() has taken from another loop: receive() returns its bytes
    /// first. With bytes, receive(buffer) cannot be used.
    ///
    /// Errors     std::bad_alloc; the connection is closed then.
    /// Thread     The ring's.
    socket(ring& loop, detached_socket detached);
    socket(socket&& other) noexcept
        : loop_(other.loop_),
          fd_(std::move(other.fd_)),
          receiving_(std::move(other.receiving_)),
          sending_(std::move(other.sending_)),
          bytes_(std::exchange(other.bytes_, std::nullopt)) {}
    socket& operator=(socket&& other) noexcept {
        // first: a stream ends before its descriptor is closed
        bytes_ = std::exchange(other.bytes_, std::nullopt);
        receiving_ = std::move(other.receiving_);
        sending_ = std::move(other.sending_);
        fd_ = std::move(other.fd_);
        loop_ = other.loop_;
        return *this;
    }
    ~socket() = default;

    /// Receives what has come, in a buffer of the ring's pool: the way for servers, as a connection
    /// that is silent holds no memory. One request of the kernel serves all receives.
    ///
    /// Result     At least one byte; an empty buffer once the peer has shut down its sending side.
    /// Errors     As receive_stream.
    [[nodiscard]] receive_stream::next_operation receive() {
        if (!bytes_) [[unlikely]]
            bytes_.emplace(*loop_, fd_);
        return bytes_->next();
    }

    /// Receives all that has come, in several buffers; see receive_stream::next_pieces().
    [[nodiscard]] receive_stream::pieces_operation receive_pieces(
        std::span<borrowed_buffer> pieces) {
        if (!bytes_) [[unlikely]]
            bytes_.emplace(*loop_, fd_);
        return bytes_->next_pieces(pieces);
    }

    /// Receives into the caller's memory; see receive_operation. Not to be mixed with receive()
    /// without a buffer, which may have taken bytes already.
    [[nodiscard]] receive_operation receive(std::span<std::byte> buffer,
                                            std::stop_token stop = {}) noexcept {
        KEVRING_ASSERT(!bytes_,
                       "receive(buffer) on a socket that receives by receive() already; use one "
                       "form for the life of a socket");
        return {*loop_, fd_, buffer, receiving_, std::move(stop)};
    }

    /// Sends all of `bytes`; see send_operation. A second send while one is pending sends nothing:
    /// their bytes would mix.
    [[nodiscard]] send_operation send(std::span<const std::byte> bytes, int flags = 0,
                                      std::stop_token stop = {}) noexcept {
        return {*loop_, fd_, bytes, flags, sending_, std::move(stop)};
    }
    [[nodiscard]] send_operation send(std::string_view text, int flags = 0) noexcept {
        return send(std::as_bytes(std::span(text)), flags);
    }
    template <byte_view Bytes>
    [[nodiscard]] send_operation send(const Bytes& bytes, int flags = 0) noexcept {
        return send(bytes_of(bytes), flags);
    }
    /// Sends the bytes of all elements of a list, in order; the list itself is not used after the call.
    ///
    /// Errors     Those of send_operation.
    /// Lifetime   The bytes to which the list refers stay valid until the await completes.
    template <byte_view_list List>
    task<send_result> send(const List& list, int flags = 0) {
        return send_parts(detail::parts_of(list), flags);
    }
    /// Sends several buffers; see send_message_operation.
    [[nodiscard]] send_message_operation send(const msghdr& message, int flags = 0) noexcept {
        return {*loop_, fd_, message, flags, sending_};
    }

    /// Ends the sending side, which the peer receives as the end of the stream; receiving
    /// continues. Waits for nothing.
    ///
    /// Errors     bad_file_descriptor after close(); operation_not_permitted in a forked process;
    ///            otherwise as shutdown(2).
    [[nodiscard]] task<result<void>> shutdown_send();

    /// Ends the connection so that the peer gets all that was sent: shuts down, takes what the peer
    /// still sends for at most `patience`, then closes. A close() with unread bytes would be a
    /// reset, which throws away what the peer has not read yet. A receive or send that is pending
    /// ends with operation_canceled.
    task<void> close(clamped_duration linger_timeout = std::chrono::seconds(2));
    /// The same for a peer that is known to send nothing more: does not wait for its end. It gets
    /// all that was sent; but if it does send something, that may be answered by a reset.
    task<void> close_without_lingering();

    result<void> set(const socket_options& options) noexcept { return set_options(fd_, options); }
    result<endpoint> local() const noexcept;
    result<endpoint> peer() const noexcept;

    ring& loop() const noexcept { return *loop_; }
    fd_ref native() const noexcept { return fd_; }
    /// Gives the connection away with all bytes that have been received and not taken, for a loop of
    /// another thread. The kernel holds no request of this ring for it afterwards. A receive or send
    /// that is pending ends with operation_canceled; bytes that it has received are its result. A
    /// stop of the caller does not interrupt it: it ends within one iteration of the loop.
    ///
    /// Errors     The error of the connection that was not reported yet, such as connection_reset;
    ///            bad_file_descriptor; operation_canceled if the ring is being destroyed. The connection
    ///            is closed after an error.
    /// Thread     The ring's.
    task<result<detached_socket>> detach();
    /// Gives the descriptor away. The ring takes no more bytes from it; those that have been
    /// received and not taken are lost. A receive or send that is pending ends
    /// with operation_canceled.
    [[nodiscard]] fd release() noexcept;

private:
    task<send_result> send_parts(std::vector<iovec> parts, int flags);
    task<void> end(int directions, std::chrono::nanoseconds linger_timeout);

    ring* loop_;
    fd fd_;
    detail::pending_slot receiving_;  // receive(buffer)
    detail::pending_slot sending_;
    std::optional<receive_stream> bytes_;  // last: ends before the descriptor is closed
};

}  // namespace kevring
