#include <kevring/runtime/operations/write.hpp>

#include <kevring/runtime/detail/byte_count.hpp>
#include <kevring/runtime/detail/uring.hpp>

namespace kevring {

void write_operation::prepare(io_uring_sqe& sqe) noexcept {
    io_uring_prep_write(&sqe, file_.number(), bytes_.data(), detail::byte_count(bytes_.size()),
                        file_offset_);
}

void writev_operation::prepare(io_uring_sqe& sqe) noexcept {
    io_uring_prep_writev(&sqe, file_.number(), parts_.data(), detail::part_count(parts_.size()),
                         file_offset_);
}

}  // namespace kevring
