#include <kevring/net/socket_options.hpp>

#include <algorithm>
#include <chrono>
#include <limits>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

namespace kevring {
namespace {

// Collects the first failure, so that the settings below read as a list.
class setter {
public:
    explicit setter(fd_ref socket) noexcept : socket_(socket) {
        socklen_t bytes = sizeof family_;
        ::getsockopt(socket.number(), SOL_SOCKET, SO_DOMAIN, &family_, &bytes);
    }

    bool is_tcp() const noexcept { return family_ != AF_UNIX; }

    void set(int level, int name, const void* value, std::size_t bytes) noexcept {
        if (failed()) return;
        if (::setsockopt(socket_.number(), level, name, value, static_cast<socklen_t>(bytes)) != 0)
            answer_ = error_from_errno();
    }
    void set(int level, int name, int value) noexcept { set(level, name, &value, sizeof value); }

    bool failed() const noexcept { return !answer_.has_value(); }
    result<void> answer() const noexcept { return answer_; }

private:
    fd_ref socket_;
    int family_ = AF_UNSPEC;
    result<void> answer_;
};

// Of TCP_KEEPIDLE, in seconds (MAX_TCP_KEEPIDLE of the kernel).
constexpr int keep_alive_max = 32767;

template <class Number>
int as_int(Number wanted) noexcept {
    return static_cast<int>(std::min<std::uintmax_t>(static_cast<std::uintmax_t>(wanted),
                                                     std::numeric_limits<int>::max()));
}

}  // namespace

result<void> set_options(fd_ref socket, const socket_options& options) noexcept {
    setter to(socket);
    if (options.send_buffer_bytes)
        to.set(SOL_SOCKET, SO_SNDBUF, as_int(*options.send_buffer_bytes));
    if (options.receive_buffer_bytes)
        to.set(SOL_SOCKET, SO_RCVBUF, as_int(*options.receive_buffer_bytes));
    if (!to.is_tcp()) return to.answer();

    const auto is_negative = [](const std::optional<clamped_duration>& duration) {
        return duration && nanoseconds(*duration) < nanoseconds::zero();
    };
    if (is_negative(options.keep_alive) || is_negative(options.user_timeout))
        return error_from(std::errc::invalid_argument);
    if (options.no_delay) to.set(IPPROTO_TCP, TCP_NODELAY, *options.no_delay ? 1 : 0);
    if (options.keep_alive) {
        const auto idle = std::chrono::ceil<std::chrono::seconds>(nanoseconds(*options.keep_alive));
        const bool enabled = idle.count() > 0;
        to.set(SOL_SOCKET, SO_KEEPALIVE, enabled ? 1 : 0);
        if (enabled) {
            const int idle_seconds = std::min(as_int(idle.count()), keep_alive_max);
            to.set(IPPROTO_TCP, TCP_KEEPIDLE, idle_seconds);
            // A silent peer is given up after three probes in the time that the first one waited.
            to.set(IPPROTO_TCP, TCP_KEEPINTVL, std::max(1, idle_seconds / 3));
            to.set(IPPROTO_TCP, TCP_KEEPCNT, 3);
        }
    }
    if (options.congestion_control)
        to.set(IPPROTO_TCP, TCP_CONGESTION, options.congestion_control->data(),
               options.congestion_control->size());
    if (options.user_timeout)
        to.set(
            IPPROTO_TCP, TCP_USER_TIMEOUT,
            as_int(std::chrono::ceil<std::chrono::milliseconds>(nanoseconds(*options.user_timeout))
                       .count()));
    return to.answer();
}

}  // namespace kevring
