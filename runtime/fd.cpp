#include <kevring/runtime/fd.hpp>

#include <kevring/runtime/ring.hpp>

#include <cerrno>

#include <fcntl.h>
#include <unistd.h>

namespace kevring {

void fd::reset(int number) noexcept {
    // Linux releases the number even if close() reports EINTR or EIO. A second close() could close
    // a descriptor that another thread has opened in the meantime.
    const int saved_errno = errno;
    if (number_ >= 0) {
        ring::submit_entries_naming(number_);
        ::close(number_);
    }
    errno = saved_errno;
    number_ = number;
}

int fd::release() noexcept {
    if (number_ >= 0) ring::submit_entries_naming(number_);
    return std::exchange(number_, -1);
}

bool reserve_standard_descriptors() noexcept {
    for (int number = STDIN_FILENO; number <= STDERR_FILENO; ++number) {
        if (::fcntl(number, F_GETFD) >= 0) continue;
        const int opened = ::open("/dev/null", O_RDWR);  // all lower numbers are open
        if (opened == number) continue;
        if (opened >= 0) ::close(opened);
        return false;
    }
    return true;
}

}  // namespace kevring
