// nop.hpp: a request that does nothing but go through the kernel's queues.
#pragma once

#include <kevring/runtime/operation.hpp>

namespace kevring {

/// Goes to the kernel and back: for measuring, and for tests of what every operation shares.
///
/// Errors     operation_canceled if it was stopped before it began.
/// Kernel     IORING_OP_NOP, Linux 5.1.
class [[nodiscard]] nop_operation final : public operation {
public:
    explicit nop_operation(ring& on, std::stop_token stop = {}) noexcept
        : operation(on, std::move(stop)) {}

    [[nodiscard]] result<void> await_resume() const noexcept { return done_or_failure(); }
    void prepare(io_uring_sqe& sqe) noexcept override;
};

}  // namespace kevring
