// write.hpp: bytes into a file, a pipe or anything else with write(2), from one buffer or several.
#pragma once

#include <kevring/runtime/operation.hpp>
#include <kevring/runtime/operations/read.hpp>

namespace kevring {

/// Writes at most `bytes.size()` bytes.
///
/// Result     The bytes written, which may be fewer than given.
/// Errors     operation_canceled, timed_out; broken_pipe without a signal for sockets, and with
///            SIGPIPE for pipes; else those of write(2).
/// Lifetime   `file` stays open and `bytes` stay valid until the await ends.
/// Kernel     IORING_OP_WRITE, Linux 5.6.
class [[nodiscard]] write_operation final : public operation {
public:
    write_operation(ring& loop, fd_ref file, std::span<const std::byte> bytes,
                    std::uint64_t file_offset = file_position, std::stop_token stop = {}) noexcept
        : operation(loop, std::move(stop)), file_(file), bytes_(bytes), file_offset_(file_offset) {}

    [[nodiscard]] result<std::size_t> await_resume() const noexcept { return count_or_failure(); }
    void prepare(io_uring_sqe& sqe) noexcept override;

private:
    fd_ref file_;
    std::span<const std::byte> bytes_;
    std::uint64_t file_offset_;
};

/// Writes from several buffers, in order; see write_operation.
///
/// Lifetime   `parts` and the buffers that it names stay valid until the await ends.
/// Kernel     IORING_OP_WRITEV, Linux 5.1; at most IOV_MAX parts.
class [[nodiscard]] writev_operation final : public operation {
public:
    writev_operation(ring& loop, fd_ref file, std::span<const iovec> parts,
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
