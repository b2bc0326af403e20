// datagram_socket.cpp: see datagram_socket.hpp.
#include <kevring/net/datagram_socket.hpp>

#include <kevring/runtime/assert.hpp>
#include <kevring/runtime/detail/hidden_fd.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <limits>

#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/socket.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

namespace kevring {
namespace {

// Control data that divides a message into segments.
class segment_control {
public:
    void attach(msghdr& message, std::uint16_t segment_bytes) noexcept {
        if (segment_bytes == 0) return;
        message.msg_control = bytes_.data();
        message.msg_controllen = bytes_.size();
        cmsghdr& entry = *CMSG_FIRSTHDR(&message);
        entry.cmsg_level = IPPROTO_UDP;
        entry.cmsg_type = UDP_SEGMENT;
        entry.cmsg_len = CMSG_LEN(sizeof segment_bytes);
        std::memcpy(CMSG_DATA(&entry), &segment_bytes, sizeof segment_bytes);
    }

private:
    alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(std::uint16_t))> bytes_{};
};

// Keeps the first failure.
class option_setter {
public:
    explicit option_setter(fd_ref socket) noexcept : socket_(socket) {}

    template <class Value>
    void set(int level, int name, const Value& value) noexcept {
        if (outcome_ && ::setsockopt(socket_.number(), level, name, &value, sizeof value) != 0)
            outcome_ = error_from_errno();
    }
    void set_flag(int level, int name, bool wanted) noexcept {
        if (wanted) set(level, name, int{1});
    }
    void set_bytes(int name, const std::optional<std::size_t>& byte_count) noexcept {
        if (byte_count)
            set(SOL_SOCKET, name,
                static_cast<int>(
                    std::min<std::size_t>(*byte_count, std::numeric_limits<int>::max())));
    }
    result<void> outcome() const noexcept { return outcome_; }

private:
    fd_ref socket_;
    result<void> outcome_;
};

result<void> set_options(fd_ref socket, int family, const datagram_options& options) noexcept {
    option_setter setter(socket);
    setter.set_bytes(SO_SNDBUF, options.send_buffer_bytes);
    setter.set_bytes(SO_RCVBUF, options.receive_buffer_bytes);
    setter.set_flag(SOL_SOCKET, SO_REUSEADDR, options.reuse_address);
    if (family == AF_UNIX) return setter.outcome();
    const bool is_ipv6 = family == AF_INET6;
    setter.set_flag(SOL_SOCKET, SO_REUSEPORT, options.reuse_port);
    setter.set_flag(SOL_SOCKET, SO_BROADCAST, options.broadcast);
    setter.set_flag(IPPROTO_UDP, UDP_GRO, options.receive_offload);
    if (is_ipv6) setter.set(IPPROTO_IPV6, IPV6_V6ONLY, options.only_ipv6 ? 1 : 0);
    if (options.packet_info) {
        // A message to an IPv6 socket from IPv4 has the IPv6 form as well.
        if (is_ipv6) setter.set(IPPROTO_IPV6, IPV6_RECVPKTINFO, int{1});
        if (!is_ipv6 || !options.only_ipv6) setter.set(IPPROTO_IP, IP_PKTINFO, int{1});
    }
    if (options.multicast_hops)
        setter.set(is_ipv6 ? IPPROTO_IPV6 : IPPROTO_IP,
                   is_ipv6 ? IPV6_MULTICAST_HOPS : IP_MULTICAST_TTL, *options.multicast_hops);
    if (options.multicast_loopback)
        setter.set(is_ipv6 ? IPPROTO_IPV6 : IPPROTO_IP,
                   is_ipv6 ? IPV6_MULTICAST_LOOP : IP_MULTICAST_LOOP,
                   *options.multicast_loopback ? 1 : 0);
    if (options.multicast_interface) {
        const auto index = static_cast<int>(*options.multicast_interface);
        if (is_ipv6) {
            setter.set(IPPROTO_IPV6, IPV6_MULTICAST_IF, index);
        } else {
            ip_mreqn request{};
            request.imr_ifindex = index;
            setter.set(IPPROTO_IP, IP_MULTICAST_IF, request);
        }
    }
    return setter.outcome();
}

ring& loop_of_thread() {
    KEVRING_ASSERT(ring::current() != nullptr,
                   "datagram socket made by a thread that drives no ring; make it in a task that "
                   "run() or spawn() started");
    return *ring::current();
}

template <class Address>
endpoint make_endpoint(const Address& address) noexcept {
    return {reinterpret_cast<const sockaddr*>(&address), sizeof address};
}

template <class Value>
Value read_value(const cmsghdr& entry) noexcept {
    Value value{};
    std::memcpy(&value, CMSG_DATA(&entry), sizeof value);
    return value;
}

// Reads the control data that `header` refers to.
void read_control(msghdr& header, datagram& message) noexcept {
    for (cmsghdr* entry = CMSG_FIRSTHDR(&header); entry != nullptr;
         entry = CMSG_NXTHDR(&header, entry)) {
        if (entry->cmsg_level == IPPROTO_UDP && entry->cmsg_type == UDP_GRO) {
            message.segment_bytes = static_cast<std::size_t>(read_value<int>(*entry));
        } else if (entry->cmsg_level == IPPROTO_IP && entry->cmsg_type == IP_PKTINFO) {
            const auto information = read_value<in_pktinfo>(*entry);
            // The kernel's source for answers is the destination, unless that is none.
            message.is_broadcast = information.ipi_spec_dst.s_addr != information.ipi_addr.s_addr &&
                                   !IN_MULTICAST(ntohl(information.ipi_addr.s_addr));
            if (message.local.family() == AF_INET6) continue;  // both forms: that one stays
            sockaddr_in address{};
            address.sin_family = AF_INET;
            address.sin_addr = information.ipi_addr;
            message.local = make_endpoint(address);
            message.interface_index = static_cast<unsigned>(information.ipi_ifindex);
        } else if (entry->cmsg_level == IPPROTO_IPV6 && entry->cmsg_type == IPV6_PKTINFO) {
            const auto information = read_value<in6_pktinfo>(*entry);
            sockaddr_in6 address{};
            address.sin6_family = AF_INET6;
            address.sin6_addr = information.ipi6_addr;
            if (IN6_IS_ADDR_LINKLOCAL(&information.ipi6_addr))
                address.sin6_scope_id = information.ipi6_ifindex;
            message.local = make_endpoint(address);
            message.interface_index = information.ipi6_ifindex;
        }
    }
}

}  // namespace

result<datagram_socket> datagram_socket::open(int family, const datagram_options& options) {
    ring& loop = loop_of_thread();
    fd opened(detail::above_standard(::socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0)));
    if (!opened) return error_from_errno();
    if (const auto set = set_options(opened, family, options); !set)
        return tl::unexpected<std::error_code>(set.error());
    return datagram_socket(loop, std::move(opened));
}

result<datagram_socket> datagram_socket::bind(const endpoint& local,
                                              const datagram_options& options) {
    auto opened = open(local.family(), options);
    if (opened && ::bind(opened->native().number(), local.address(), local.address_bytes()) != 0)
        return error_from_errno();
    return opened;
}

result<std::pair<datagram_socket, datagram_socket>> datagram_socket::pair(int type) {
    ring& loop = loop_of_thread();
    int numbers[2] = {-1, -1};
    if (::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, numbers) != 0) return error_from_errno();
    fd first(detail::above_standard(numbers[0]));
    fd second(detail::above_standard(numbers[1]));
    if (!first || !second) return error_from_errno();
    return std::pair(datagram_socket(loop, std::move(first)),
                     datagram_socket(loop, std::move(second)));
}

result<void> datagram_socket::connect(const endpoint& peer) noexcept {
    if (::connect(fd_.number(), peer.address(), peer.address_bytes()) != 0)
        return error_from_errno();
    return {};
}

result<void> datagram_socket::disconnect() noexcept {
    const sockaddr none{AF_UNSPEC, {}};
    if (::connect(fd_.number(), &none, sizeof none) != 0) return error_from_errno();
    return {};
}

task<result<std::size_t>> datagram_socket::send_message(std::span<const std::byte> bytes,
                                                        std::optional<endpoint> peer,
                                                        std::uint16_t segment_bytes) {
    if (!fd_) co_return error_from(std::errc::bad_file_descriptor);
    iovec part{const_cast<std::byte*>(bytes.data()), bytes.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (peer) {
        message.msg_name = peer->address();
        message.msg_namelen = peer->address_bytes();
    }
    segment_control control;
    control.attach(message, segment_bytes);
    send_datagram_operation request(*ring_, fd_, message);
    co_return co_await request;
}

task<result<std::size_t>> datagram_socket::send_parts(std::vector<iovec> parts,
                                                      std::optional<endpoint> peer,
                                                      std::uint16_t segment_bytes) {
    if (!fd_) co_return error_from(std::errc::bad_file_descriptor);
    msghdr message{};
    message.msg_iov = parts.data();
    message.msg_iovlen = parts.size();
    if (peer) {
        message.msg_name = peer->address();
        message.msg_namelen = peer->address_bytes();
    }
    segment_control control;
    control.attach(message, segment_bytes);
    send_datagram_operation request(*ring_, fd_, message);
    co_return co_await request;
}

task<result<std::size_t>> datagram_socket::send_to(std::span<const std::byte> bytes, endpoint peer,
                                                   std::uint16_t segment_bytes) {
    return send_message(bytes, peer, segment_bytes);
}
task<result<std::size_t>> datagram_socket::send_to(std::string_view text, endpoint peer) {
    return send_message(std::as_bytes(std::span(text)), peer, 0);
}
task<result<std::size_t>> datagram_socket::send(std::span<const std::byte> bytes,
                                                std::uint16_t segment_bytes) {
    return send_message(bytes, std::nullopt, segment_bytes);
}
task<result<std::size_t>> datagram_socket::send(std::string_view text) {
    return send_message(std::as_bytes(std::span(text)), std::nullopt, 0);
}

task<result<datagram>> datagram_socket::receive_from(std::span<std::byte> buffer) {
    if (!fd_) co_return error_from(std::errc::bad_file_descriptor);
    KEVRING_ASSERT(!stream_,
                   "receive_from(buffer) on a socket that receives by receive_from() already; use "
                   "one form for the life of a socket");
    datagram received;
    iovec part{buffer.data(), buffer.size()};
    alignas(cmsghdr) std::array<std::byte, control_bytes> control{};
    msghdr message{};
    message.msg_name = received.peer.address();
    message.msg_namelen = endpoint::capacity();
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    receive_message_operation request(*ring_, fd_, message);
    const auto count = co_await request;
    if (!count) co_return tl::unexpected<std::error_code>(count.error());
    received.byte_count = *count;
    received.peer.set_address_bytes(std::min(message.msg_namelen, endpoint::capacity()));
    received.truncated = (message.msg_flags & MSG_TRUNC) != 0;
    read_control(message, received);
    co_return received;
}

void datagram_socket::use_pool(buffer_pool& pool) {
    KEVRING_ASSERT(!stream_, "use_pool() after a receive_from(); call it before the first one");
    stream_.emplace(*ring_, fd_, pool, control_bytes);
}

datagram_socket::pooled_operation datagram_socket::receive_from() {
    if (!stream_) [[unlikely]]
        use_pool(ring_->service<buffer_pool>());
    return pooled_operation(stream_->next());
}

result<pooled_datagram> datagram_socket::pooled_operation::await_resume() noexcept {
    auto message = next_.await_resume();
    if (!message) return tl::unexpected<std::error_code>(message.error());
    pooled_datagram received;
    received.byte_count = message->payload.size();
    received.peer = endpoint(reinterpret_cast<const sockaddr*>(message->address.data()),
                             message->address.size());
    received.truncated = (message->flags & MSG_TRUNC) != 0;
    msghdr header{};
    header.msg_control = const_cast<std::byte*>(message->control.data());
    header.msg_controllen = message->control.size();
    read_control(header, received);
    received.payload = message->payload;
    received.memory = std::move(message->memory);
    return received;
}

result<void> datagram_socket::change_membership(const endpoint& group, unsigned interface_index,
                                                bool joins) noexcept {
    option_setter setter(fd_);
    if (group.family() == AF_INET) {
        sockaddr_in address{};
        std::memcpy(&address, group.address(), sizeof address);
        ip_mreqn request{};
        request.imr_multiaddr = address.sin_addr;
        request.imr_ifindex = static_cast<int>(interface_index);
        setter.set(IPPROTO_IP, joins ? IP_ADD_MEMBERSHIP : IP_DROP_MEMBERSHIP, request);
    } else if (group.family() == AF_INET6) {
        sockaddr_in6 address{};
        std::memcpy(&address, group.address(), sizeof address);
        ipv6_mreq request{};
        request.ipv6mr_multiaddr = address.sin6_addr;
        request.ipv6mr_interface = interface_index != 0 ? interface_index : address.sin6_scope_id;
        setter.set(IPPROTO_IPV6, joins ? IPV6_ADD_MEMBERSHIP : IPV6_DROP_MEMBERSHIP, request);
    } else {
        return error_from(std::errc::invalid_argument);
    }
    return setter.outcome();
}

result<void> datagram_socket::join(const endpoint& group, unsigned interface_index) noexcept {
    return change_membership(group, interface_index, true);
}
result<void> datagram_socket::leave(const endpoint& group, unsigned interface_index) noexcept {
    return change_membership(group, interface_index, false);
}

result<endpoint> datagram_socket::local() const noexcept {
    endpoint address;
    socklen_t byte_count = endpoint::capacity();
    if (::getsockname(fd_.number(), address.address(), &byte_count) != 0) return error_from_errno();
    address.set_address_bytes(std::min(byte_count, endpoint::capacity()));
    return address;
}

}  // namespace kevring
