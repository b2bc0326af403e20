// socket.cpp: sockets that can be received from, accepted from or sent to.
#include <kevring/kevent/sources/fd_source.hpp>

#include <cerrno>

#include <poll.h>
#include <sys/stat.h>

namespace kevring::detail {
namespace {

constexpr std::uint32_t input_events = KEVENT_SOCKET_RECV | KEVENT_SOCKET_ACCEPT;
constexpr std::uint32_t input_bits = POLLIN | POLLRDNORM;
constexpr std::uint32_t output_bits = POLLOUT | POLLWRNORM;

// ret_data[0] holds the events of the mask that are true (K-101).
class socket_source final : public fd_source {
public:
    using fd_source::fd_source;

    static result<std::unique_ptr<source>> make(source_host& host, registration& of) {
        const auto file = status_of(of);
        if (!file) return error_from(-file.error().value());
        if ((file->st_mode & S_IFMT) != S_IFSOCK) return error_from(-ENOTSOCK);
        auto made = std::make_unique<socket_source>(host, of);
        made->share(*file, &is_ready);
        return made;
    }

private:
    std::uint32_t wanted_bits() const noexcept override {
        std::uint32_t bits = POLLRDHUP;
        if ((event() & input_events) != 0) bits |= input_bits;
        if ((event() & KEVENT_SOCKET_SEND) != 0) bits |= output_bits;
        return bits;
    }

    static std::uint32_t satisfied_events(std::uint32_t event, std::uint32_t poll_bits) noexcept {
        std::uint32_t satisfied = 0;
        if ((poll_bits & input_bits) != 0) satisfied |= event & input_events;
        // A connection that is dead reports room to send as well. Who only sends would never hear
        // of the failure, if that counted.
        const bool only_sends = (event & input_events) == 0;
        const bool failed = (poll_bits & (POLLERR | POLLHUP)) != 0;
        if ((poll_bits & output_bits) != 0 && !(only_sends && failed))
            satisfied |= event & KEVENT_SOCKET_SEND;
        return satisfied;
    }
    static bool is_ready(std::uint32_t event, std::uint32_t poll_bits) noexcept {
        return satisfied_events(event, poll_bits) != 0;
    }

    readiness judge(std::uint32_t poll_bits) noexcept override {
        const std::uint32_t satisfied = satisfied_events(event(), poll_bits);
        if (satisfied != 0) {
            set_results(satisfied, 0);
            return readiness::ready;
        }
        if ((poll_bits & (POLLERR | POLLHUP | POLLRDHUP)) == 0) return readiness::not_ready;
        set_results(0, static_cast<std::uint32_t>(-EPIPE));
        return readiness::broken;
    }
};

}  // namespace

result<std::unique_ptr<source>> make_socket_source(source_host& host, registration& of) {
    return socket_source::make(host, of);
}

}  // namespace kevring::detail
