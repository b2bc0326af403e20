// splice.hpp: bytes from one descriptor to another through a pipe, without a copy to the program.
#pragma once

#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/operation.hpp>

#include <cstddef>
#include <cstdint>

namespace kevring {

/// Moves at most `count` bytes; at least one of the two descriptors is a pipe.
///
/// Result     The bytes moved, which may be fewer; 0 at the end of the input.
/// Errors     operation_canceled, timed_out; resource_unavailable_try_again where a non-blocking
///            target is full: the ring does not wait for it. Else those of splice(2).
/// Lifetime   Both stay open until the await ends.
/// Kernel     IORING_OP_SPLICE, Linux 5.7; always done by a worker thread of the kernel.
class [[nodiscard]] splice_operation final : public operation {
public:
    /// Offsets are -1 for pipes, and for the position of a file itself. `flags` as for splice(2).
    splice_operation(ring& loop, fd_ref source, std::int64_t source_offset, fd_ref target,
                     std::int64_t target_offset, std::size_t count, unsigned flags = 0,
                     std::stop_token stop = {}) noexcept
        : operation(loop, std::move(stop)),
          source_(source),
          target_(target),
          flags_(flags),
          source_offset_(source_offset),
          target_offset_(target_offset),
          count_(count) {}

    [[nodiscard]] result<std::size_t> await_resume() const noexcept { return count_or_failure(); }
    void prepare(io_uring_sqe& sqe) noexcept override;

private:
    fd_ref source_;
    fd_ref target_;
    unsigned flags_;
    std::int64_t source_offset_;
    std::int64_t target_offset_;
    std::size_t count_;
};

}  // namespace kevring
