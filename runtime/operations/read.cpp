#include <kevring/runtime/operations/read.hpp>

#include <kevring/runtime/detail/byte_count.hpp>
#include <kevring/runtime/detail/uring.hpp>
#include <kevring/runtime/detail/warm_bytes.hpp>

namespace kevring {

void read_operation::prepare(io_uring_sqe& sqe) noexcept {
    detail::bytes_are_warm = true;  // by the time it ends
    io_uring_prep_read(&sqe, file_.number(), buffer_.data(), detail::byte_count(buffer_.size()),
                       file_offset_);
}

void read_fixed_operation::prepare(io_uring_sqe& sqe) noexcept {
    detail::bytes_are_warm = true;  // by the time it ends
    io_uring_prep_read_fixed(&sqe, file_.number(), part_.data(), detail::byte_count(part_.size()),
                             file_offset_, buffer_index_);
}

void readv_operation::prepare(io_uring_sqe& sqe) noexcept {
    detail::bytes_are_warm = true;  // by the time it ends
    io_uring_prep_readv(&sqe, file_.number(), parts_.data(), detail::part_count(parts_.size()),
                        file_offset_);
}

}  // namespace kevring
