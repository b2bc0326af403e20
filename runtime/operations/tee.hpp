// tee.hpp: duplicates the bytes of one pipe in another without consuming them.
#pragma once

#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/operation.hpp>

#include <cstddef>

namespace kevring {

/// Duplicates at most `byte_count` bytes from the pipe `source` in the pipe `target`. The bytes stay
/// in `source`.
///
/// Result     The bytes duplicated, which may be fewer; 0 at the end of `source`.
/// Errors     operation_canceled, timed_out; resource_unavailable_try_again where a non-blocking pipe
///            is empty or full: the ring does not wait for it. Otherwise as for tee(2).
/// Lifetime   Both stay open until the await completes.
/// Kernel     IORING_OP_TEE, Linux 5.8; an io-wq thread of the kernel always executes it.
class [[nodiscard]] tee_operation final : public operation {
public:
    /// `flags` as for tee(2).
    tee_operation(ring& loop, fd_ref source, fd_ref target, std::size_t byte_count,
                  unsigned flags = 0, std::stop_token stop = {}) noexcept
        : operation(loop, std::move(stop)),
          source_(source),
          target_(target),
          flags_(flags),
          byte_count_(byte_count) {}

    [[nodiscard]] result<std::size_t> await_resume() const noexcept { return count_or_failure(); }
    void prepare(io_uring_sqe& sqe) noexcept override;

private:
    fd_ref source_;
    fd_ref target_;
    unsigned flags_;
    std::size_t byte_count_;
};

}  // namespace kevring
