#include <kevring/runtime/operations/connect.hpp>

#include <kevring/runtime/detail/uring.hpp>

namespace kevring {

void connect_operation::prepare(io_uring_sqe& sqe) noexcept {
    io_uring_prep_connect(&sqe, socket_.number(), address_, address_bytes_);
}

}  // namespace kevring
