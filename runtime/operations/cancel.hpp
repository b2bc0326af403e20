// cancel.hpp: an end to all that is in flight on a descriptor.
#pragma once

#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/operation.hpp>

#include <cstddef>

namespace kevring {

/// Asks the kernel to end every request of this ring on `file`; needed before a descriptor is
/// closed that others may still wait on. Their awaits end by themselves, with operation_canceled.
///
/// Result     How many requests it found; 0 is no error.
/// Kernel     IORING_OP_ASYNC_CANCEL with IORING_ASYNC_CANCEL_FD, Linux 5.19.
class [[nodiscard]] cancel_operation final : public operation {
public:
    cancel_operation(ring& on, fd_ref file) noexcept : operation(on, {}), file_(file) {}

    [[nodiscard]] result<std::size_t> await_resume() const noexcept;
    void prepare(io_uring_sqe& sqe) noexcept override;

private:
    fd_ref file_;
};

}  // namespace kevring
