// shutdown.hpp: the end of one direction of a connection, or of both.
#pragma once

#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/operation.hpp>

namespace kevring {

/// Shuts down a direction: SHUT_RD, SHUT_WR or SHUT_RDWR.
///
/// Errors     operation_canceled; not_connected; else those of shutdown(2).
/// Lifetime   `socket` stays open until the await ends.
/// Kernel     IORING_OP_SHUTDOWN, Linux 5.11.
class [[nodiscard]] shutdown_operation final : public operation {
public:
    shutdown_operation(ring& loop, fd_ref socket, int direction, std::stop_token stop = {}) noexcept
        : operation(loop, std::move(stop)), socket_(socket), direction_(direction) {}

    [[nodiscard]] result<void> await_resume() const noexcept { return done_or_failure(); }
    void prepare(io_uring_sqe& sqe) noexcept override;

private:
    fd_ref socket_;
    int direction_;
};

}  // namespace kevring
