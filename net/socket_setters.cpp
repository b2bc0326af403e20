// socket_setters.cpp: see socket_setters.hpp.
#include <kevring/net/socket_setters.hpp>

#include <kevring/runtime/detail/hidden_fd.hpp>
#include <kevring/runtime/operations/connect.hpp>

#include <array>
#include <cstdint>
#include <limits>
#include <utility>

#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

namespace kevring {
namespace {

constexpr int keep_alive_seconds_max = 32767;  // MAX_TCP_KEEPIDLE, MAX_TCP_KEEPINTVL
constexpr int probe_count_max = 127;           // MAX_TCP_KEEPCNT

tl::unexpected<std::error_code> out_of_range() noexcept {
    return error_from(std::errc::invalid_argument);
}

template <class Value>
result<void> set(fd_ref socket, int level, int name, const Value& value) noexcept {
    if (::setsockopt(socket.number(), level, name, &value, sizeof value) != 0)
        return error_from_errno();
    return {};
}

result<int> get(fd_ref socket, int level, int name) noexcept {
    int value = 0;
    socklen_t byte_count = sizeof value;
    if (::getsockopt(socket.number(), level, name, &value, &byte_count) != 0)
        return error_from_errno();
    return value;
}

// Rounded up to `Unit`; empty below `least` and above `most`.
template <class Unit>
std::optional<int> count_of(clamped_duration duration, int least, int most) noexcept {
    const auto exact = nanoseconds(duration);
    if (exact < nanoseconds::zero()) return std::nullopt;
    const auto whole = std::chrono::duration_cast<Unit>(exact);
    const std::int64_t count = std::int64_t{whole.count()} + (whole < exact ? 1 : 0);
    if (count < least || count > most) return std::nullopt;
    return static_cast<int>(count);
}

}  // namespace

result<fd> open_stream_socket(int family) noexcept {
    fd opened(detail::above_standard(::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0)));
    if (!opened) return error_from_errno();
    return opened;
}

task<result<socket>> connect(ring& loop, fd opened, endpoint peer) {
    connect_operation request(loop, opened, peer.address(), peer.address_bytes());
    const auto connected = co_await request;
    if (!connected) co_return tl::unexpected<std::error_code>(connected.error());
    co_return socket(loop, std::move(opened));
}

result<void> set_keep_alive(fd_ref socket, const keep_alive_options& options) noexcept {
    const auto idle = count_of<std::chrono::seconds>(options.idle, 1, keep_alive_seconds_max);
    const auto interval =
        count_of<std::chrono::seconds>(options.interval, 1, keep_alive_seconds_max);
    if (!idle || !interval || options.probe_count < 1 || options.probe_count > probe_count_max)
        return out_of_range();
    result<void> changed = set(socket, IPPROTO_TCP, TCP_KEEPIDLE, *idle);
    if (changed) changed = set(socket, IPPROTO_TCP, TCP_KEEPINTVL, *interval);
    if (changed) changed = set(socket, IPPROTO_TCP, TCP_KEEPCNT, options.probe_count);
    if (changed) changed = set(socket, SOL_SOCKET, SO_KEEPALIVE, int{1});
    return changed;
}

result<void> clear_keep_alive(fd_ref socket) noexcept {
    return set(socket, SOL_SOCKET, SO_KEEPALIVE, int{0});
}

result<void> set_user_timeout(fd_ref socket, clamped_duration timeout) noexcept {
    const auto count =
        count_of<std::chrono::milliseconds>(timeout, 0, std::numeric_limits<int>::max());
    if (!count) return out_of_range();
    return set(socket, IPPROTO_TCP, TCP_USER_TIMEOUT, *count);
}

result<void> set_fast_open_queue(fd_ref listening, int connection_count_max) noexcept {
    if (connection_count_max < 0) return out_of_range();
    return set(listening, IPPROTO_TCP, TCP_FASTOPEN, connection_count_max);
}

result<void> set_fast_open_connect(fd_ref socket, bool enabled) noexcept {
    return set(socket, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, enabled ? 1 : 0);
}

result<void> set_traffic_class(fd_ref socket, int value) noexcept {
    if (value < 0 || value > 255) return out_of_range();
    const auto family = get(socket, SOL_SOCKET, SO_DOMAIN);
    if (!family) return tl::unexpected<std::error_code>(family.error());
    if (*family == AF_INET) return set(socket, IPPROTO_IP, IP_TOS, value);
    if (*family != AF_INET6) return error_from(std::errc::operation_not_supported);
    if (const auto changed = set(socket, IPPROTO_IPV6, IPV6_TCLASS, value); !changed)
        return changed;
    // Of the IPv4 peers of a socket with both families. One for IPv6 only may refuse it.
    static_cast<void>(set(socket, IPPROTO_IP, IP_TOS, value));
    return {};
}

result<void> set_device(fd_ref socket, std::string_view interface_name) noexcept {
    if (interface_name.size() >= IFNAMSIZ || interface_name.find('\0') != std::string_view::npos)
        return out_of_range();
    std::array<char, IFNAMSIZ> name{};
    interface_name.copy(name.data(), name.size() - 1);
    if (::setsockopt(socket.number(), SOL_SOCKET, SO_BINDTODEVICE, name.data(),
                     static_cast<socklen_t>(interface_name.size() + 1)) != 0)
        return error_from_errno();
    return {};
}

result<void> set_incoming_cpu(fd_ref socket, int cpu) noexcept {
    if (cpu < 0) return out_of_range();
    return set(socket, SOL_SOCKET, SO_INCOMING_CPU, cpu);
}

result<int> incoming_cpu(fd_ref socket) noexcept {
    return get(socket, SOL_SOCKET, SO_INCOMING_CPU);
}

result<void> set_busy_poll(fd_ref socket, clamped_duration duration) noexcept {
    const auto count =
        count_of<std::chrono::microseconds>(duration, 0, std::numeric_limits<int>::max());
    if (!count) return out_of_range();
    return set(socket, SOL_SOCKET, SO_BUSY_POLL, *count);
}

result<void> set_linger(fd_ref socket, std::optional<clamped_duration> duration) noexcept {
    linger value{};
    if (duration) {
        const auto count =
            count_of<std::chrono::seconds>(*duration, 0, std::numeric_limits<int>::max());
        if (!count) return out_of_range();
        value.l_onoff = 1;
        value.l_linger = *count;
    }
    return set(socket, SOL_SOCKET, SO_LINGER, value);
}

}  // namespace kevring
