// nop.hpp: a request without effect, which passes through the kernel's queues.
#pragma once

#include <kevring/runtime/operation.hpp>

namespace kevring {

/// Submits a no-op and waits for its completion: for benchmarks, and for tests of the common
/// behaviour of all operations.
///
/// Errors     operation_canceled if a stop was requested before the submission.
/// Kernel     IORING_OP_NOP, Linux 5.1.
class [[nodiscard]] nop_operation final : public operation {
public:
    explicit nop_operation(ring& loop, std::stop_token stop = {}) noexcept
        : operation(loop, std::move(stop)) {}

    [[nodiscard]] result<void> await_resume() const noexcept { return done_or_failure(); }
    void prepare(io_uring_sqe& sqe) noexcept override;
};

}  // namespace kevring
