// socket.cpp: sockets that can be received from, accepted from or sent to.
#include <kevring/kevent/sources/stream_source.hpp>

#include <cerrno>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

namespace kevring::detail {
namespace {

struct socket_interest {
    static constexpr mode_t file_type = S_IFSOCK;
    static constexpr int other_file_error = ENOTSOCK;
    static constexpr std::uint32_t input_events = KEVENT_SOCKET_RECV | KEVENT_SOCKET_ACCEPT;
    static constexpr std::uint32_t end_bits = POLLERR | POLLHUP | POLLRDHUP;

    // A connection that is dead reports room to send as well. If that counted, a program that
    // only sends would never receive the failure.
    static bool can_send(std::uint32_t event, std::uint32_t poll_bits) noexcept {
        const bool only_sends = (event & input_events) == 0;
        const bool failed = (poll_bits & (POLLERR | POLLHUP)) != 0;
        return !(only_sends && failed);
    }

    // Connections that wait to be accepted. Linux says it for TCP only, in a field that has another
    // meaning where the socket does not listen (net/ipv4/tcp.c, tcp_get_info()).
    static std::uint32_t count(int number, std::uint32_t satisfied) noexcept {
        if ((satisfied & KEVENT_SOCKET_ACCEPT) == 0) return 0;
        tcp_info info{};
        socklen_t size = sizeof info;
        const int caller_errno = errno;
        const int answer = ::getsockopt(number, IPPROTO_TCP, TCP_INFO, &info, &size);
        errno = caller_errno;
        return answer == 0 && info.tcpi_state == TCP_LISTEN ? info.tcpi_unacked : 0;
    }
};

}  // namespace

result<std::unique_ptr<source>> make_socket_source(source_host& host, registration& target) {
    return stream_source<socket_interest>::make(host, target);
}

}  // namespace kevring::detail
