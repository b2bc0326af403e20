// socket_setters.hpp: options of open sockets, one function each; socket_options.hpp has the common ones.
//
//     auto opened = kevring::open_stream_socket(peer.family());
//     if (!opened || !kevring::set_device(*opened, "eth1")) co_return;
//     auto connected = co_await kevring::connect(loop, std::move(*opened), peer);
#pragma once

#include <kevring/net/endpoint.hpp>
#include <kevring/net/socket.hpp>
#include <kevring/runtime/clock.hpp>
#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/result.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/task.hpp>

#include <chrono>
#include <optional>
#include <string_view>

namespace kevring {

// Every function returns invalid_argument for a value out of its range, without a change; otherwise
// the errors of setsockopt(2). Times are rounded up to the unit of the kernel. Connections that a
// listener accepts inherit its options, but for set_fast_open_connect().
//
// Thread     Any, while no other thread closes the socket.

/// A TCP socket without an address, for options that a connection needs from its beginning.
///
/// Errors     As for socket(2).
result<fd> open_stream_socket(int family) noexcept;
/// Connects a socket that the caller has opened.
///
/// Errors     As for connect(ring&, endpoint). The socket is closed then.
/// Thread     The loop's thread.
task<result<socket>> connect(ring& loop, fd opened, endpoint peer);

/// Probes of a peer that is silent.
struct keep_alive_options {
    clamped_duration idle = std::chrono::hours(2);         // before the first: 1 s to 32767 s
    clamped_duration interval = std::chrono::seconds(75);  // between two: 1 s to 32767 s
    int probe_count = 9;                                   // without an answer: 1 to 127
};
/// Turns probes on (SO_KEEPALIVE, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT). A peer is given up with
/// timed_out after `idle` and `probe_count` intervals; TCP_USER_TIMEOUT replaces the count.
result<void> set_keep_alive(fd_ref socket, const keep_alive_options& options) noexcept;
/// Turns probes off.
result<void> clear_keep_alive(fd_ref socket) noexcept;

/// Gives up on a peer that acknowledges nothing for `timeout`: 1 ms to INT_MAX ms, or 0 for the
/// system's setting (TCP_USER_TIMEOUT).
result<void> set_user_timeout(fd_ref socket, clamped_duration timeout) noexcept;

/// Of a listener: the number of connections with data in their first segment that may wait for the
/// end of their handshake; 0 accepts no such data (TCP_FASTOPEN, RFC 7413). The system must allow it:
/// bit 1 of net.ipv4.tcp_fastopen. Data of the first segment may arrive twice.
result<void> set_fast_open_queue(fd_ref listening, int connection_count_max) noexcept;
/// Before connect(): a host that has given a cookie gets the first bytes with the first segment
/// (TCP_FASTOPEN_CONNECT). connect() succeeds immediately then, and the send has its errors: of no use
/// for connect_first().
result<void> set_fast_open_connect(fd_ref socket, bool enabled) noexcept;

/// The traffic class of packets, 0 to 255: six bits of a differentiated services code point, and two
/// of ECN, which the kernel keeps to itself for TCP (IP_TOS, IPV6_TCLASS). Not for Unix sockets:
/// operation_not_supported.
result<void> set_traffic_class(fd_ref socket, int value) noexcept;

/// Sends and receives by one network interface only; an empty name removes the bond (SO_BINDTODEVICE).
/// At most 15 bytes without a zero byte.
///
/// Errors     no_such_device; operation_not_permitted for a bond that exists, without CAP_NET_RAW.
result<void> set_device(fd_ref socket, std::string_view interface_name) noexcept;

/// Of the sockets of one port (SO_REUSEPORT): prefers this one for packets that the processor `cpu`
/// receives, at least 0 (SO_INCOMING_CPU).
result<void> set_incoming_cpu(fd_ref socket, int cpu) noexcept;
/// The processor that has received the last packet of a connection.
result<int> incoming_cpu(fd_ref socket) noexcept;

/// A receive without data polls the network device for `duration`: 0 to INT_MAX microseconds
/// (SO_BUSY_POLL). It costs CPU time, and has no effect on the loopback interface.
///
/// Errors     operation_not_permitted for more than the current value, without CAP_NET_ADMIN.
result<void> set_busy_poll(fd_ref socket, clamped_duration duration) noexcept;

/// The behaviour of the last close (SO_LINGER). None: it returns immediately, and the kernel sends the
/// rest. Zero: unsent bytes are dropped, and the peer gets a reset. More, up to INT_MAX seconds: **the
/// close blocks the thread**, and with it the loop, until the peer has acknowledged all or the time
/// has passed; socket::close() waits without blocking.
result<void> set_linger(fd_ref socket, std::optional<clamped_duration> duration) noexcept;

}  // namespace kevring
