// file_range.hpp: requests about the size and the storage of a file: truncate, allocate, sync a range.
#pragma once

#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/operation.hpp>

#include <cstdint>

namespace kevring {

/// Sets the size of a file. file::truncate() has the fallback for kernels without this request.
///
/// Errors     operation_canceled, timed_out; invalid_argument before Linux 6.9; otherwise as for
///            ftruncate(2).
/// Lifetime   `file` stays open until the await completes.
/// Kernel     IORING_OP_FTRUNCATE, Linux 6.9; an io-wq thread of the kernel always executes it.
class [[nodiscard]] truncate_operation final : public operation {
public:
    static constexpr std::uint8_t opcode = 55;  // newer than the header of liburing 2.3

    truncate_operation(ring& loop, fd_ref file, std::uint64_t file_bytes,
                       std::stop_token stop = {}) noexcept
        : operation(loop, std::move(stop)), file_(file), file_bytes_(file_bytes) {}

    [[nodiscard]] result<void> await_resume() const noexcept { return done_or_failure(); }
    void prepare(io_uring_sqe& sqe) noexcept override;

private:
    fd_ref file_;
    std::uint64_t file_bytes_;
};

/// Allocates or frees the storage of a part of a file.
///
/// Errors     operation_canceled, timed_out; otherwise as for fallocate(2).
/// Lifetime   `file` stays open until the await completes.
/// Kernel     IORING_OP_FALLOCATE, Linux 5.6; an io-wq thread of the kernel always executes it.
class [[nodiscard]] allocate_operation final : public operation {
public:
    /// `mode` as for fallocate(2): 0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE and so on.
    allocate_operation(ring& loop, fd_ref file, std::uint64_t file_offset, std::uint64_t byte_count,
                       int mode = 0, std::stop_token stop = {}) noexcept
        : operation(loop, std::move(stop)),
          file_(file),
          mode_(mode),
          file_offset_(file_offset),
          byte_count_(byte_count) {}

    [[nodiscard]] result<void> await_resume() const noexcept { return done_or_failure(); }
    void prepare(io_uring_sqe& sqe) noexcept override;

private:
    fd_ref file_;
    int mode_;
    std::uint64_t file_offset_;
    std::uint64_t byte_count_;
};

/// Starts to write a part of a file to its device, or waits for that. It writes no metadata and does
/// not flush the cache of the device: only fsync_operation makes data durable.
///
/// Errors     operation_canceled, timed_out; otherwise as for sync_file_range(2).
/// Lifetime   `file` stays open until the await completes.
/// Kernel     IORING_OP_SYNC_FILE_RANGE, Linux 5.2; an io-wq thread of the kernel always executes it.
class [[nodiscard]] sync_range_operation final : public operation {
public:
    /// A `byte_count` of 0, or above 4 GiB, is to the end of the file. `flags` as for
    /// sync_file_range(2).
    sync_range_operation(ring& loop, fd_ref file, std::uint64_t file_offset,
                         std::uint64_t byte_count, unsigned flags,
                         std::stop_token stop = {}) noexcept
        : operation(loop, std::move(stop)),
          file_(file),
          flags_(flags),
          file_offset_(file_offset),
          byte_count_(byte_count) {}

    [[nodiscard]] result<void> await_resume() const noexcept { return done_or_failure(); }
    void prepare(io_uring_sqe& sqe) noexcept override;

private:
    fd_ref file_;
    unsigned flags_;
    std::uint64_t file_offset_;
    std::uint64_t byte_count_;
};

}  // namespace kevring
