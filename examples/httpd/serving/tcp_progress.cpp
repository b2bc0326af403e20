#include "tcp_progress.hpp"

#include <linux/sockios.h>
// Not with <netinet/tcp.h>, whose tcp_info is an older one of the same name.
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

namespace httpd {

std::optional<std::uint64_t> acked_bytes(kevring::fd_ref socket) noexcept {
    tcp_info info{};
    socklen_t bytes = sizeof info;
    if (::getsockopt(socket.number(), IPPROTO_TCP, TCP_INFO, &info, &bytes) != 0)
        return std::nullopt;
    return info.tcpi_bytes_acked;
}

std::uint64_t send_queue_bytes(kevring::fd_ref socket) noexcept {
    int bytes = 0;  // of a Unix socket: of memory
    if (::ioctl(socket.number(), SIOCOUTQ, &bytes) != 0 || bytes < 0) return 0;
    return static_cast<std::uint64_t>(bytes);
}

}  // namespace httpd
