// poll.cpp: any descriptor that poll(2) can wait for, with the bits of poll(2).
#include <kevring/kevent/sources/fd_source.hpp>

#include <kevring/runtime/kernel.hpp>

#include <cerrno>

#include <poll.h>
#include <sys/stat.h>

namespace kevring::detail {
namespace {

constexpr std::uint32_t all_bits =
    KEVENT_POLL_POLLIN | KEVENT_POLL_POLLPRI | KEVENT_POLL_POLLOUT | KEVENT_POLL_POLLERR |
    KEVENT_POLL_POLLHUP | KEVENT_POLL_POLLNVAL | KEVENT_POLL_POLLRDNORM | KEVENT_POLL_POLLRDBAND |
    KEVENT_POLL_POLLWRNORM | KEVENT_POLL_POLLWRBAND | KEVENT_POLL_POLLMSG | KEVENT_POLL_POLLRDHUP;

// Never broken, and nothing is implied: POLLERR and POLLHUP count only where the mask has them
// (K-107). ret_data[0] holds the bits of the mask that are true.
class poll_source final : public fd_source {
public:
    using fd_source::fd_source;

    static result<std::unique_ptr<source>> make(source_host& host, registration& target) {
        const auto file = status_of(target);
        if (!file) return error_from(-file.error().value());
        const auto type = file->st_mode & S_IFMT;
        // poll(2) reports these ready at all times. So it does with a device or another file that
        // has no poll operation, by all four bits.
        if (type == S_IFREG || type == S_IFDIR || type == S_IFBLK) return error_from(-EINVAL);
        constexpr short always = POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM;
        pollfd now{static_cast<int>(target.record.id.raw[0]), always, 0};
        if (type != S_IFSOCK && type != S_IFIFO && kernel::real().poll_nowait(&now, 1) > 0 &&
            (now.revents & always) == always && host.check_pollable(now.fd) != 0)
            return error_from(-EINVAL);
        return std::make_unique<poll_source>(host, target);
    }

    std::uint32_t forced_flags() const noexcept override { return KEVENT_REQ_LAST_CHECK; }

private:
    std::uint32_t wanted_bits() const noexcept override { return event() & all_bits; }

    readiness evaluate(std::uint32_t poll_bits) noexcept override {
        const std::uint32_t satisfied = poll_bits & event() & all_bits;
        set_results(satisfied, 0);
        return satisfied != 0 ? readiness::ready : readiness::not_ready;
    }
};

}  // namespace

result<std::unique_ptr<source>> make_poll_source(source_host& host, registration& target) {
    return poll_source::make(host, target);
}

}  // namespace kevring::detail
