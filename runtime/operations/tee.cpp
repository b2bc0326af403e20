#include <kevring/runtime/operations/tee.hpp>

#include <kevring/runtime/detail/byte_count.hpp>
#include <kevring/runtime/detail/uring.hpp>

namespace kevring {

void tee_operation::prepare(io_uring_sqe& sqe) noexcept {
    io_uring_prep_tee(&sqe, source_.number(), target_.number(), detail::byte_count(byte_count_),
                      flags_);
}

}  // namespace kevring
