// datagram_reply.cpp: see datagram_reply.hpp.
#include <kevring/net/datagram_reply.hpp>

#include <kevring/runtime/operations/datagram.hpp>

#include <algorithm>
#include <array>
#include <cstring>

#include <netinet/in.h>
#include <sys/socket.h>

namespace kevring {
namespace {

// The part of a request that its answer needs.
struct route {
    endpoint peer;
    endpoint local;
    unsigned interface_index = 0;
    bool is_broadcast = false;
};

constexpr std::size_t control_bytes =
    std::max(CMSG_SPACE(sizeof(in_pktinfo)), CMSG_SPACE(sizeof(in6_pktinfo)));

template <class Information>
void write_control(msghdr& message, int level, int type, const Information& information) noexcept {
    message.msg_controllen = CMSG_SPACE(sizeof information);
    cmsghdr& entry = *CMSG_FIRSTHDR(&message);
    entry.cmsg_level = level;
    entry.cmsg_type = type;
    entry.cmsg_len = CMSG_LEN(sizeof information);
    std::memcpy(CMSG_DATA(&entry), &information, sizeof information);
}

bool is_broadcast(in_addr_t destination, const route& back) noexcept {
    return back.is_broadcast || destination == INADDR_BROADCAST;
}

// A group or a broadcast address is no source, and its message concerns one network; a link-local
// address needs its link. Other answers take the interface of their route.
void write_source(msghdr& message, const route& back) noexcept {
    if (back.local.family() == AF_INET) {
        sockaddr_in address{};
        std::memcpy(&address, back.local.address(), sizeof address);
        const in_addr_t destination = ntohl(address.sin_addr.s_addr);
        const bool is_group = IN_MULTICAST(destination) || is_broadcast(destination, back);
        in_pktinfo information{};
        if (is_group)
            information.ipi_ifindex = static_cast<int>(back.interface_index);
        else
            information.ipi_spec_dst = address.sin_addr;
        write_control(message, IPPROTO_IP, IP_PKTINFO, information);
    } else {
        sockaddr_in6 address{};
        std::memcpy(&address, back.local.address(), sizeof address);
        const bool is_group = IN6_IS_ADDR_MULTICAST(&address.sin6_addr);
        in6_pktinfo information{};
        if (IN6_IS_ADDR_V4MAPPED(&address.sin6_addr)) {
            const in_addr_t destination = ntohl(address.sin6_addr.s6_addr32[3]);
            if (IN_MULTICAST(destination) || is_broadcast(destination, back)) {
                address.sin6_addr.s6_addr32[3] = 0;
                information.ipi6_ifindex = back.interface_index;
            }
        }
        if (is_group || IN6_IS_ADDR_LINKLOCAL(&address.sin6_addr))
            information.ipi6_ifindex = back.interface_index;
        if (!is_group) information.ipi6_addr = address.sin6_addr;
        write_control(message, IPPROTO_IPV6, IPV6_PKTINFO, information);
    }
}

task<result<std::size_t>> send_back(datagram_socket& socket, route back,
                                    std::span<const std::byte> bytes) {
    if (!socket.native().valid()) co_return error_from(std::errc::bad_file_descriptor);
    iovec part{const_cast<std::byte*>(bytes.data()), bytes.size()};
    alignas(cmsghdr) std::array<std::byte, control_bytes> control{};
    msghdr message{};
    message.msg_name = back.peer.address();
    message.msg_namelen = back.peer.address_bytes();
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    write_source(message, back);
    send_datagram_operation request(socket.loop(), socket.native(), message);
    co_return co_await request;
}

}  // namespace

task<result<std::size_t>> reply(datagram_socket& socket, const datagram& request,
                                std::span<const std::byte> bytes) {
    if (request.local.family() == AF_UNSPEC) return socket.send_to(bytes, request.peer);
    return send_back(socket,
                     {request.peer, request.local, request.interface_index, request.is_broadcast},
                     bytes);
}

task<result<std::size_t>> reply(datagram_socket& socket, const datagram& request,
                                std::string_view text) {
    return reply(socket, request, std::as_bytes(std::span(text)));
}

}  // namespace kevring
