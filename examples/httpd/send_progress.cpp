#include "send_progress.hpp"

// Not with <netinet/tcp.h>, whose tcp_info is an older one of the same name.
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

namespace httpd {

std::optional<std::uint64_t> bytes_taken(kevring::fd_ref socket) noexcept {
    tcp_info info{};
    socklen_t bytes = sizeof info;
    if (::getsockopt(socket.number(), IPPROTO_TCP, TCP_INFO, &info, &bytes) != 0)
        return std::nullopt;
    return info.tcpi_bytes_acked;
}

}  // namespace httpd
