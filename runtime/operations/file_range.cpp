#include <kevring/runtime/operations/file_range.hpp>

#include <kevring/runtime/detail/uring.hpp>

#include <limits>

namespace kevring {

void truncate_operation::prepare(io_uring_sqe& sqe) noexcept {
    io_uring_prep_rw(opcode, &sqe, file_.number(), nullptr, 0, file_bytes_);
}

void allocate_operation::prepare(io_uring_sqe& sqe) noexcept {
    io_uring_prep_fallocate(&sqe, file_.number(), mode_, static_cast<off_t>(file_offset_),
                            static_cast<off_t>(byte_count_));
}

void sync_range_operation::prepare(io_uring_sqe& sqe) noexcept {
    // The length field has 32 bits; 0 is the rest of the file.
    constexpr std::uint64_t byte_count_max = std::numeric_limits<unsigned>::max();
    const std::uint64_t byte_count = byte_count_ > byte_count_max ? 0 : byte_count_;
    io_uring_prep_sync_file_range(&sqe, file_.number(), static_cast<unsigned>(byte_count),
                                  file_offset_, static_cast<int>(flags_));
}

}  // namespace kevring
