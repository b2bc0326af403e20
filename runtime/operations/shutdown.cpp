#include <kevring/runtime/operations/shutdown.hpp>

#include <kevring/runtime/detail/uring.hpp>

namespace kevring {

void shutdown_operation::prepare(io_uring_sqe& sqe) noexcept {
    io_uring_prep_shutdown(&sqe, socket_.number(), direction_);
}

}  // namespace kevring
