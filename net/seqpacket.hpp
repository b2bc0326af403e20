// seqpacket.hpp: connections of Unix sockets that keep the boundaries of messages (SOCK_SEQPACKET).
//
//     auto listener = kevring::seqpacket_listener::bind(kevring::endpoint::unix_path("@control").value());
//     auto client = co_await listener->accept();
//     const auto message = co_await client->receive(buffer);
//     if (!message || message->byte_count == 0) co_return;  // an error, or the end
#pragma once

#include <kevring/net/endpoint.hpp>
#include <kevring/net/listener.hpp>
#include <kevring/net/socket.hpp>
#include <kevring/runtime/byte_views.hpp>
#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/result.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/task.hpp>

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace kevring {

/// A message of a seqpacket_socket.
struct received_packet {
    std::size_t byte_count = 0;  // in the buffer; 0: the peer has ended its sending side
    bool truncated = false;      // the end of the message did not fit, and is lost
};

/// One end of a connection that transfers whole messages, in order and without loss.
/// send_descriptors() and receive_descriptors() work on its native().
///
/// Lifetime   Outlives every await on it; within the life of its ring. The destructor closes it; what
///            was sent stays available to the peer.
/// Thread     The loop's thread.
/// In flight  Any number of sends; one receive.
class seqpacket_socket {
public:
    seqpacket_socket(ring& loop, fd connected) noexcept : ring_(&loop), fd_(std::move(connected)) {}

    /// Sends one message of at least one byte; waits while the peer has too many that it has not
    /// received.
    ///
    /// Result     The number of bytes, which is all of them.
    /// Errors     operation_canceled, timed_out; invalid_argument for an empty message, which the peer
    ///            would take for the end; message_size for more than the send buffer; broken_pipe;
    ///            otherwise as for sendmsg(2).
    /// Lifetime   `bytes` stay valid until the await completes.
    task<result<std::size_t>> send(std::span<const std::byte> bytes);
    task<result<std::size_t>> send(std::string_view text);
    template <byte_view Bytes>
    task<result<std::size_t>> send(const Bytes& bytes) {
        return send(bytes_of(bytes));
    }
    /// The same; the bytes of all elements are one message.
    template <byte_view_list List>
    task<result<std::size_t>> send(const List& list) {
        return send_parts(detail::parts_of(list));
    }

    /// Receives one message.
    ///
    /// Errors     operation_canceled, timed_out; connection_reset if the peer has closed with messages
    ///            that it has not received; invalid_argument for an empty buffer; otherwise as for
    ///            recvmsg(2).
    /// Lifetime   `buffer` stays valid until the await completes.
    /// Lost items The message, if the await loses a when_any().
    task<result<received_packet>> receive(std::span<std::byte> buffer);

    /// Ends the sending side: the peer receives the end after all messages. Does not block.
    ///
    /// Errors     As for shutdown(2).
    result<void> shutdown_send() noexcept;

    ring& loop() const noexcept { return *ring_; }
    fd_ref native() const noexcept { return fd_; }

private:
    task<result<std::size_t>> send_parts(std::vector<iovec> parts);

    ring* ring_;
    fd fd_;
};

/// A Unix socket that gives connections of messages.
///
/// Lifetime   Within the life of its ring. The destructor removes the path that bind() created, if it
///            is still that file, and not in a child process.
/// Thread     The loop's thread.
class seqpacket_listener {
public:
    /// Binds to a path or to an abstract name ("@name"), and listens. The ring is that of the thread.
    ///
    /// Errors     invalid_argument for an address that is not Unix; address_in_use, also for a path
    ///            that an earlier process has left; otherwise as for socket(2), bind(2) and listen(2).
    static result<seqpacket_listener> bind(const endpoint& local, int backlog = 4096);
    /// Takes over a socket that listens already.
    seqpacket_listener(ring& loop, fd listening) : connections_(loop, std::move(listening)) {}
    seqpacket_listener(seqpacket_listener&& other) noexcept
        : path_(std::exchange(other.path_, {})), connections_(std::move(other.connections_)) {}
    seqpacket_listener& operator=(seqpacket_listener&&) = delete;
    ~seqpacket_listener();

    /// The await of accept().
    class [[nodiscard]] accept_operation {
    public:
        explicit accept_operation(detail::fetched_item<socket> next) noexcept
            : next_(std::move(next)) {}
        bool await_ready() const noexcept { return next_.await_ready(); }
        template <class Promise>
        bool await_suspend(std::coroutine_handle<Promise> waiter) noexcept {
            return next_.await_suspend(waiter);
        }
        [[nodiscard]] result<seqpacket_socket> await_resume();
        bool leave() const noexcept { return next_.leave(); }

    private:
        detail::fetched_item<socket> next_;
    };
    /// The next connection; see listener::accept().
    accept_operation accept() { return accept_operation(connections_.accept()); }

    result<endpoint> local() const noexcept { return connections_.local(); }
    fd_ref native() const noexcept { return connections_.native(); }

private:
    // The file of the socket, and the process that created it.
    struct bound_path {
        std::string name;
        std::uint64_t device = 0;
        std::uint64_t inode = 0;
        int process = 0;
    };

    bound_path path_;
    listener connections_;
};

/// Connects to a seqpacket_listener.
///
/// Errors     operation_canceled, timed_out; connection_refused; no_such_file_or_directory; invalid_argument
///            for an address that is not Unix; otherwise as for socket(2) and connect(2).
/// Thread     The loop's thread.
task<result<seqpacket_socket>> connect_seqpacket(ring& loop, endpoint peer);

}  // namespace kevring
