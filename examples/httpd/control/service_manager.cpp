#include "service_manager.hpp"

#include <kevring/runtime/fd.hpp>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <ctime>

#include <sys/socket.h>
#include <sys/un.h>

namespace httpd {

void notify_service_manager(const std::string& state) noexcept {
    const char* const path = std::getenv("NOTIFY_SOCKET");
    sockaddr_un address{};
    const std::size_t bytes = path == nullptr ? 0 : std::strlen(path);
    if (bytes < 2 || bytes >= sizeof address.sun_path) return;
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path, bytes);
    if (path[0] == '@') address.sun_path[0] = 0;  // an abstract address
    const kevring::fd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const auto address_bytes = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + bytes);
    // A manager that does not receive cannot be helped.
    static_cast<void>(!::sendto(socket.number(), state.data(), state.size(), MSG_NOSIGNAL,
                                reinterpret_cast<const sockaddr*>(&address), address_bytes));
}

void notify_reloading() noexcept {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    const std::int64_t microseconds = std::int64_t{now.tv_sec} * 1'000'000 + now.tv_nsec / 1'000;
    notify_service_manager("RELOADING=1\nMONOTONIC_USEC=" + std::to_string(microseconds));
}

}  // namespace httpd
