#include <kevring/runtime/operations/splice.hpp>

#include <kevring/runtime/detail/byte_count.hpp>
#include <kevring/runtime/detail/uring.hpp>

namespace kevring {

void splice_operation::prepare(io_uring_sqe& sqe) noexcept {
    io_uring_prep_splice(&sqe, source_.number(), source_offset_, target_.number(), target_offset_,
                         detail::byte_count(count_), flags_);
}

}  // namespace kevring
