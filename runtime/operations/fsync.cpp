#include <kevring/runtime/operations/fsync.hpp>

#include <kevring/runtime/detail/uring.hpp>

namespace kevring {

void fsync_operation::prepare(io_uring_sqe& sqe) noexcept {
    io_uring_prep_fsync(&sqe, file_.number(),
                        scope_ == sync_scope::data ? IORING_FSYNC_DATASYNC : 0U);
}

}  // namespace kevring
