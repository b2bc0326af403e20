// pipe.cpp: one end of a pipe or FIFO.
#include <kevring/kevent/sources/fd_source.hpp>

#include <cerrno>

#include <poll.h>
#include <sys/stat.h>

namespace kevring::detail {
namespace {

// An end of a pipe says by POLLHUP that there are no writers, by POLLERR that there are no readers
// (poll(2)). Data that is left counts before the missing writers (K-109).
class pipe_source final : public fd_source {
public:
    using fd_source::fd_source;

    static result<std::unique_ptr<source>> make(source_host& host, registration& of) {
        const auto file = status_of(of);
        if (!file) return error_from(-file.error().value());
        if ((file->st_mode & S_IFMT) != S_IFIFO) return error_from(-EINVAL);
        auto made = std::make_unique<pipe_source>(host, of);
        made->share(*file, &is_ready);
        return made;
    }

private:
    std::uint32_t wanted_bits() const noexcept override {
        std::uint32_t bits = 0;
        if ((event() & KEVENT_SOCKET_RECV) != 0) bits |= POLLIN | POLLRDNORM;
        if ((event() & KEVENT_SOCKET_SEND) != 0) bits |= POLLOUT | POLLWRNORM;
        return bits;
    }

    static std::uint32_t satisfied_events(std::uint32_t event, std::uint32_t poll_bits) noexcept {
        std::uint32_t satisfied = 0;
        if ((poll_bits & (POLLIN | POLLRDNORM)) != 0) satisfied |= event & KEVENT_SOCKET_RECV;
        if ((poll_bits & (POLLOUT | POLLWRNORM)) != 0 && (poll_bits & POLLERR) == 0)
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
        if ((poll_bits & (POLLERR | POLLHUP)) == 0) return readiness::not_ready;
        set_results(0, static_cast<std::uint32_t>(-EPIPE));
        return readiness::broken;
    }
};

}  // namespace

result<std::unique_ptr<source>> make_pipe_source(source_host& host, registration& of) {
    return pipe_source::make(host, of);
}

}  // namespace kevring::detail
