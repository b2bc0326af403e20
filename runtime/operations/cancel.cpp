#include <kevring/runtime/operations/cancel.hpp>

#include <kevring/runtime/detail/uring.hpp>

#include <cerrno>

namespace kevring {

void cancel_operation::prepare(io_uring_sqe& sqe) noexcept {
    io_uring_prep_cancel_fd(&sqe, file_.number(), IORING_ASYNC_CANCEL_ALL);
}

result<std::size_t> cancel_operation::await_resume() const noexcept {
    if (res() == -ENOENT) return std::size_t{0};
    return count_or_failure();
}

}  // namespace kevring
