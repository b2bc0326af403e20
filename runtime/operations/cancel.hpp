// cancel.hpp: cancels every request in flight on a descriptor.
#pragma once

#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/operation.hpp>

#include <cstddef>

namespace kevring {

/// Asks the kernel to cancel every request of this ring on `file`. Await it before closing a
/// descriptor that other coroutines may await: closing cancels nothing.
///
/// Result     Number of requests that the kernel found; 0 is not an error. Each of them completes
///            separately, with operation_canceled unless its result was already known.
/// Errors     As for IORING_OP_ASYNC_CANCEL, without ENOENT.
/// Lifetime   `file` stays open until the await completes.
/// Thread     The loop's thread.
/// Kernel     IORING_OP_ASYNC_CANCEL with IORING_ASYNC_CANCEL_FD, Linux 5.19.
class [[nodiscard]] cancel_operation final : public operation {
public:
    cancel_operation(ring& loop, fd_ref file) noexcept : operation(loop, {}), file_(file) {}

    [[nodiscard]] result<std::size_t> await_resume() const noexcept;
    void prepare(io_uring_sqe& sqe) noexcept override;

private:
    fd_ref file_;
};

}  // namespace kevring
