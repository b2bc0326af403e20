// read.hpp: reads from a file, a pipe or any other descriptor into one or several buffers.
#pragma once

#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/fixed_buffer_pool.hpp>
#include <kevring/runtime/operation.hpp>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <span>

struct iovec;

namespace kevring {

/// The current position of the file description, which reads and writes advance. Pipes, sockets and
/// terminals accept no other value.
inline constexpr std::uint64_t file_position = ~std::uint64_t{0};

/// Reads at most `buffer.size()` bytes.
///
/// Result     Number of bytes read, possibly fewer than requested; 0 at the end of the file, or for
///            a pipe after its last writer has closed it.
/// Errors     operation_canceled, timed_out; invalid_argument for an empty `buffer`; otherwise as for
///            read(2).
/// Lifetime   `file` stays open and `buffer` stays valid until the await completes.
/// Kernel     IORING_OP_READ, Linux 5.6. An io-wq thread of the kernel reads a file that is not
///            in the page cache; the loop does not block.
class [[nodiscard]] read_operation final : public operation {
public:
    read_operation(ring& loop, fd_ref file, std::span<std::byte> buffer,
                   std::uint64_t file_offset = file_position, std::stop_token stop = {}) noexcept
        : operation(loop, std::move(stop)),
          file_(file),
          buffer_(buffer),
          file_offset_(file_offset) {
        if (buffer.empty()) refuse(EINVAL);  // 0 bytes mean the end of the file
    }

    [[nodiscard]] result<std::size_t> await_resume() const noexcept { return count_or_failure(); }
    void prepare(io_uring_sqe& sqe) noexcept override;

private:
    fd_ref file_;
    std::span<std::byte> buffer_;
    std::uint64_t file_offset_;
};

/// Reads into `part` of a registered buffer; see read_operation.
///
/// Lifetime   The caller keeps `buffer` until the await completes.
/// Kernel     IORING_OP_READ_FIXED, Linux 5.1.
class [[nodiscard]] read_fixed_operation final : public operation {
public:
    read_fixed_operation(ring& loop, fd_ref file, const fixed_buffer& buffer,
                         std::span<std::byte> part, std::uint64_t file_offset = file_position,
                         std::stop_token stop = {}) noexcept
        : operation(loop, std::move(stop)),
          file_(file),
          buffer_index_(buffer.index()),
          part_(part),
          file_offset_(file_offset) {
        if (part.empty()) refuse(EINVAL);
        KEVRING_ASSERT(part.data() >= buffer.bytes().data(),
                       "read outside of the registered buffer; pass a part of buffer.bytes()");
        KEVRING_ASSERT(part.data() + part.size() <= buffer.bytes().data() + buffer.bytes().size(),
                       "read outside of the registered buffer; pass a part of buffer.bytes()");
    }

    [[nodiscard]] result<std::size_t> await_resume() const noexcept { return count_or_failure(); }
    void prepare(io_uring_sqe& sqe) noexcept override;

private:
    fd_ref file_;
    std::uint16_t buffer_index_;
    std::span<std::byte> part_;
    std::uint64_t file_offset_;
};

/// Reads into several buffers, in order; see read_operation.
///
/// Lifetime   `parts` and the buffers in it stay valid until the await completes.
/// Kernel     IORING_OP_READV, Linux 5.1; at most IOV_MAX parts.
class [[nodiscard]] readv_operation final : public operation {
public:
    readv_operation(ring& loop, fd_ref file, std::span<const iovec> parts,
                    std::uint64_t file_offset = file_position, std::stop_token stop = {}) noexcept
        : operation(loop, std::move(stop)), file_(file), parts_(parts), file_offset_(file_offset) {}

    [[nodiscard]] result<std::size_t> await_resume() const noexcept { return count_or_failure(); }
    void prepare(io_uring_sqe& sqe) noexcept override;

private:
    fd_ref file_;
    std::span<const iovec> parts_;
    std::uint64_t file_offset_;
};

}  // namespace kevring
