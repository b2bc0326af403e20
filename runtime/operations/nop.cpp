#include <kevring/runtime/operations/nop.hpp>

#include <kevring/runtime/detail/uring.hpp>

namespace kevring {

void nop_operation::prepare(io_uring_sqe& sqe) noexcept { io_uring_prep_nop(&sqe); }

}  // namespace kevring
