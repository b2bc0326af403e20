#include <kevring/runtime/operations/open.hpp>

#include <kevring/runtime/detail/uring.hpp>

#include <utility>

#include <fcntl.h>
#include <linux/openat2.h>

namespace kevring {

open_operation::open_operation(ring& loop, fd_ref directory, const char* path, int flags,
                               mode_t mode, std::uint64_t resolve, std::stop_token stop) noexcept
    : operation(loop, std::move(stop)),
      directory_(directory),
      path_(path),
      how_{static_cast<std::uint64_t>(flags | O_CLOEXEC), mode, resolve} {
    static_assert(sizeof(how) == sizeof(open_how));
    KEVRING_ASSERT(path != nullptr, "open of a null path; pass a path");
}

result<fd> open_operation::await_resume() noexcept {
    if (res() < 0) return failure();
    return fd(res());
}

void open_operation::prepare(io_uring_sqe& sqe) noexcept {
    io_uring_prep_openat2(&sqe, directory_.number(), path_, reinterpret_cast<open_how*>(&how_));
}

close_operation::close_operation(ring& loop, fd file) noexcept
    : operation(loop, {}), file_(std::move(file)) {
    KEVRING_ASSERT(file_.valid(), "close of an invalid descriptor; pass a descriptor that is open");
}

void close_operation::prepare(io_uring_sqe& sqe) noexcept {
    // The kernel owns the number from the submission, also if close(2) reports an error.
    io_uring_prep_close(&sqe, std::exchange(file_.number_, -1));
}

}  // namespace kevring
