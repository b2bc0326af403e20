// datagram_reply.hpp: an answer that leaves from the address to which the question was sent.
//
//     auto socket = kevring::datagram_socket::bind(any, {.packet_info = true});
//     const auto message = co_await socket->receive_from(buffer);
//     const auto sent = co_await kevring::reply(*socket, *message, answer);
#pragma once

#include <kevring/net/datagram_socket.hpp>
#include <kevring/runtime/byte_views.hpp>
#include <kevring/runtime/result.hpp>
#include <kevring/runtime/task.hpp>

#include <cstddef>
#include <span>
#include <string_view>

namespace kevring {

/// Sends `bytes` to the sender of `request`, from the destination address of `request`. A socket that
/// is bound to every address of a host with several would otherwise answer from the address that the
/// route prefers, which the peer may not accept. A message to a multicast group or a broadcast
/// address is answered by the interface of its arrival.
///
/// Result     The number of bytes, which is all of them.
/// Errors     Those of datagram_socket::send_to(); invalid_argument where the address is no longer one
///            of this host. A `request` without packet information is answered as send_to() does.
/// Lifetime   `socket` and `bytes` stay valid until the await completes.
/// Thread     The loop's thread.
/// Kernel     IP_PKTINFO, IPV6_PKTINFO of ip(7) and ipv6(7).
task<result<std::size_t>> reply(datagram_socket& socket, const datagram& request,
                                std::span<const std::byte> bytes);
task<result<std::size_t>> reply(datagram_socket& socket, const datagram& request,
                                std::string_view text);
template <byte_view Bytes>
task<result<std::size_t>> reply(datagram_socket& socket, const datagram& request,
                                const Bytes& bytes) {
    return reply(socket, request, bytes_of(bytes));
}

}  // namespace kevring
