// datagram_socket.hpp: messages without a connection: UDP, and Unix datagrams.
//
//     auto socket = kevring::datagram_socket::bind(kevring::endpoint::loopback(8125));
//     while (true) {
//         const auto message = co_await socket->receive_from(buffer);
//         if (!message) break;
//         const auto sent = co_await socket->send_to(buffer.first(message->byte_count), message->peer);
//     }
#pragma once

#include <kevring/net/endpoint.hpp>
#include <kevring/runtime/buffer_pool.hpp>
#include <kevring/runtime/byte_views.hpp>
#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/operations/datagram.hpp>
#include <kevring/runtime/result.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/task.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace kevring {

/// A member without a value keeps the system's setting.
struct datagram_options {
    bool reuse_address = false;  // other sockets may have the same address: for multicast
    bool reuse_port = false;     // the kernel distributes messages among the sockets of a port
    bool broadcast = false;
    /// Receives know the local address and the interface of each message.
    bool packet_info = false;
    /// The kernel joins consecutive messages of one sender (UDP_GRO, Linux 5.0):
    /// datagram::segment_bytes is the size of each but the last.
    bool receive_offload = false;
    bool only_ipv6 = false;  // an IPv6 socket for [::] receives no IPv4 messages
    std::optional<std::size_t> send_buffer_bytes = std::nullopt;
    std::optional<std::size_t> receive_buffer_bytes = std::nullopt;
    /// Of multicast messages: the number of routers that forward them, 0 to 255.
    std::optional<int> multicast_hops = std::nullopt;
    /// Sockets of this host receive them as well. The system's setting is true.
    std::optional<bool> multicast_loopback = std::nullopt;
    /// The interface by which they leave, by its number (if_nametoindex(3)).
    std::optional<unsigned> multicast_interface = std::nullopt;
};

/// A message that was received.
struct datagram {
    std::size_t byte_count = 0;     // in the buffer
    endpoint peer;                  // the sender; no address for an unnamed Unix socket
    bool truncated = false;         // the end of the message did not fit, and is lost
    std::size_t segment_bytes = 0;  // of each message that the kernel has joined; 0: it is one
    endpoint local;                 // with packet_info: the destination, without a port
    unsigned interface_index = 0;   // with packet_info
    bool is_broadcast = false;      // with packet_info: `local` is a broadcast address of IPv4
};

/// The same in a buffer of a pool.
struct pooled_datagram : datagram {
    std::span<std::byte> payload;  // may be empty
    borrowed_buffer memory;        // that `payload` lies in
};

/// A socket for messages: UDP on IPv4 or IPv6, or Unix.
///
/// An empty datagram is a message like others; there is no end of the input.
///
/// Lifetime   Outlives every await on it; within the life of its ring. The destructor closes it.
/// Thread     The loop's thread.
/// In flight  Any number of sends; one receive.
class datagram_socket {
public:
    /// A socket with the address `local`. Port 0: a free one, see local(). A Unix path is created and
    /// not removed; an abstract name ("@name") ends with the socket. The ring is that of the thread.
    ///
    /// Errors     address_in_use; otherwise as for socket(2), setsockopt(2) and bind(2).
    static result<datagram_socket> bind(const endpoint& local,
                                        const datagram_options& options = {});
    /// A socket without an address: the kernel gives it one with the first message.
    ///
    /// Errors     As for socket(2) and setsockopt(2).
    static result<datagram_socket> open(int family, const datagram_options& options = {});
    /// Two Unix sockets that are connected to each other. `type` is SOCK_DGRAM or SOCK_SEQPACKET.
    static result<std::pair<datagram_socket, datagram_socket>> pair(int type);

    datagram_socket(ring& loop, fd opened) noexcept : ring_(&loop), fd_(std::move(opened)) {}
    datagram_socket(datagram_socket&& other) noexcept
        : ring_(other.ring_), fd_(std::move(other.fd_)), stream_(std::move(other.stream_)) {
        other.stream_.reset();
    }
    datagram_socket& operator=(datagram_socket&& other) noexcept {
        stream_ = std::move(other.stream_);  // first: a stream ends before its descriptor is closed
        other.stream_.reset();
        fd_ = std::move(other.fd_);
        ring_ = other.ring_;
        return *this;
    }
    ~datagram_socket() = default;

    /// Sets the peer: send() sends to it, and only its messages are received. Does not block.
    ///
    /// Errors     As for connect(2).
    result<void> connect(const endpoint& peer) noexcept;
    /// Removes the peer.
    result<void> disconnect() noexcept;

    /// Sends one message. `segment_bytes` above 0: the kernel divides `bytes` into messages of that
    /// size, the last of which may be shorter (UDP_SEGMENT, Linux 4.18; at most 64 messages and 65507
    /// bytes).
    ///
    /// Result     The number of bytes, which is all of them.
    /// Errors     operation_canceled, timed_out; message_size; connection_refused, network_unreachable;
    ///            not_connected for send() without a peer; otherwise as for sendmsg(2).
    /// Lifetime   `bytes` stay valid until the await completes.
    task<result<std::size_t>> send_to(std::span<const std::byte> bytes, endpoint peer,
                                      std::uint16_t segment_bytes = 0);
    task<result<std::size_t>> send_to(std::string_view text, endpoint peer);
    task<result<std::size_t>> send(std::span<const std::byte> bytes,
                                   std::uint16_t segment_bytes = 0);
    task<result<std::size_t>> send(std::string_view text);
    template <byte_view Bytes>
    task<result<std::size_t>> send_to(const Bytes& bytes, endpoint peer,
                                      std::uint16_t segment_bytes = 0) {
        return send_to(bytes_of(bytes), peer, segment_bytes);
    }
    template <byte_view Bytes>
    task<result<std::size_t>> send(const Bytes& bytes, std::uint16_t segment_bytes = 0) {
        return send(bytes_of(bytes), segment_bytes);
    }
    /// The same; the bytes of all elements are one message, or are divided as one.
    template <byte_view_list List>
    task<result<std::size_t>> send_to(const List& list, endpoint peer,
                                      std::uint16_t segment_bytes = 0) {
        return send_parts(detail::parts_of(list), peer, segment_bytes);
    }
    template <byte_view_list List>
    task<result<std::size_t>> send(const List& list, std::uint16_t segment_bytes = 0) {
        return send_parts(detail::parts_of(list), std::nullopt, segment_bytes);
    }

    /// Receives one message into the caller's memory.
    ///
    /// Errors     operation_canceled, timed_out; connection_refused: an earlier message to the peer of
    ///            connect() found no receiver; otherwise as for recvmsg(2). The socket can be used
    ///            further.
    /// Lifetime   `buffer` stays valid until the await completes.
    /// Lost items The message, if the await loses a when_any(); receive_from() without a buffer loses
    ///            none.
    task<result<datagram>> receive_from(std::span<std::byte> buffer);

    /// The await of receive_from() without a buffer.
    class [[nodiscard]] pooled_operation {
    public:
        explicit pooled_operation(message_stream::next_operation next) noexcept
            : next_(std::move(next)) {}
        bool await_ready() const noexcept { return next_.await_ready(); }
        template <class Promise>
        bool await_suspend(std::coroutine_handle<Promise> waiter) noexcept {
            return next_.await_suspend(waiter);
        }
        [[nodiscard]] result<pooled_datagram> await_resume() noexcept;
        bool leave() noexcept { return next_.leave(); }

    private:
        message_stream::next_operation next_;
    };
    /// Receives one message into a buffer of the ring's pool, or of the pool of use_pool(): a socket
    /// without messages holds no memory, and one request of the kernel serves all receives. Not to be
    /// mixed with the other form.
    ///
    /// Errors     As message_stream.
    pooled_operation receive_from();
    /// The pool for receive_from(), called before it. Its buffers hold 16 bytes of a header, 128 of an
    /// address, control_bytes of packet information, and a message; a longer message is cut.
    void use_pool(buffer_pool& pool);

    /// Receives the messages to a multicast group, on an interface (0: the kernel chooses).
    ///
    /// Errors     invalid_argument for an address that is no group or of another family; address_in_use
    ///            for a group that was joined before; otherwise as for setsockopt(2).
    result<void> join(const endpoint& group, unsigned interface_index = 0) noexcept;
    result<void> leave(const endpoint& group, unsigned interface_index = 0) noexcept;

    result<endpoint> local() const noexcept;
    ring& loop() const noexcept { return *ring_; }
    fd_ref native() const noexcept { return fd_; }

    /// The control data of a message: two integers of a join, and a packet information.
    static constexpr std::size_t control_bytes = 128;

private:
    task<result<std::size_t>> send_message(std::span<const std::byte> bytes,
                                           std::optional<endpoint> peer,
                                           std::uint16_t segment_bytes);
    task<result<std::size_t>> send_parts(std::vector<iovec> parts, std::optional<endpoint> peer,
                                         std::uint16_t segment_bytes);
    result<void> change_membership(const endpoint& group, unsigned interface_index,
                                   bool joins) noexcept;

    ring* ring_;
    fd fd_;
    std::optional<message_stream> stream_;  // last: ends before the descriptor is closed
};

}  // namespace kevring
