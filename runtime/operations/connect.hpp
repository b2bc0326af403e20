// connect.hpp: connects a socket to an address.
#pragma once

#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/operation.hpp>

struct sockaddr;

namespace kevring {

/// Connects a socket. After a failure the socket is unusable: close it and create another.
///
/// Errors     operation_canceled, timed_out; connection_refused; otherwise as for connect(2).
/// Lifetime   `socket` stays open and `address` stays valid until the await completes.
/// Kernel     IORING_OP_CONNECT, Linux 5.5.
class [[nodiscard]] connect_operation final : public operation {
public:
    connect_operation(ring& loop, fd_ref socket, const sockaddr* address, unsigned address_bytes,
                      std::stop_token stop = {}) noexcept
        : operation(loop, std::move(stop)),
          socket_(socket),
          address_(address),
          address_bytes_(address_bytes) {}

    [[nodiscard]] result<void> await_resume() const noexcept { return done_or_failure(); }
    void prepare(io_uring_sqe& sqe) noexcept override;

private:
    fd_ref socket_;
    const sockaddr* address_;
    unsigned address_bytes_;
};

}  // namespace kevring
