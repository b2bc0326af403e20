#include <kevring/runtime/detail/unlink_later.hpp>

#include <kevring/runtime/detail/uring.hpp>

#include <cerrno>

#include <unistd.h>

namespace kevring::detail {

void unlink_later::complete(std::int32_t res, std::uint32_t) noexcept {
    // The destructor of the ring cancels what has not begun.
    if (res == -ECANCELED || res == -EINTR) {
        const int saved_errno = errno;
        static_cast<void>(::unlinkat(directory_.number(), name_.c_str(), 0));
        errno = saved_errno;
    }
    delete this;
}

void unlink_later::prepare(io_uring_sqe& sqe) noexcept {
    io_uring_prep_unlinkat(&sqe, directory_.number(), name_.c_str(), 0);
}

}  // namespace kevring::detail
