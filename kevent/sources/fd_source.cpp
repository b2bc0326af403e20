// fd_source.cpp: see fd_source.hpp.
#include <kevring/kevent/sources/fd_source.hpp>

#include <kevring/runtime/kernel.hpp>

#include <cerrno>

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>

namespace kevring::detail {

fd_source::~fd_source() { host_.unwatch(watch_); }

int fd_source::number() const noexcept {
    return held_ ? held_.number() : static_cast<int>(of_.record.id.raw[0]);
}

int fd_source::arm() {
    // With an empty mask no activity counts, errors included, which the kernel would report.
    if (event() == KEVENT_MASK_EMPTY) {
        host_.unwatch(watch_);
        return 0;
    }
    if (!held_) {
        const int copy = ::fcntl(number(), F_DUPFD_CLOEXEC, 0);
        if (copy < 0) return -errno;
        hold(fd(copy));
    }
    const int answer = host_.watch(watch_, *this, wanted_bits(), of_.has(KEVENT_REQ_ONESHOT));
    return answer == -EPERM ? -EINVAL : answer;  // a file that cannot be polled
}

readiness fd_source::test() {
    pollfd now{number(), static_cast<short>(wanted_bits()), 0};
    if (kernel::real().poll_now(&now, 1) < 0) return readiness::not_ready;
    return judge(static_cast<std::uint16_t>(now.revents));
}

void fd_source::disarm() noexcept { host_.unwatch(watch_); }

result<std::uint32_t> fd_source::file_type(const registration& of) noexcept {
    struct stat status{};
    const int number = static_cast<int>(of.record.id.raw[0]);
    if (const int answer = kernel::real().stat_file(number, status); answer < 0)
        return error_from(answer);
    return static_cast<std::uint32_t>(status.st_mode & S_IFMT);
}

}  // namespace kevring::detail
