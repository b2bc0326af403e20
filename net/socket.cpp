#include <kevring/net/socket.hpp>

#include <kevring/runtime/deadline.hpp>

#include <sys/socket.h>

namespace kevring {

shutdown_operation socket::shutdown_send() noexcept { return {*loop_, fd_, SHUT_WR}; }

task<void> socket::close(clamped_duration linger_timeout) { return end(SHUT_WR, linger_timeout); }

// This waits for no peer, but may wait for a buffer while other receivers have all. The shutdown
// ends the request in flight, which would have to be cancelled otherwise.
task<void> socket::close_without_lingering() { return end(SHUT_RDWR, std::chrono::seconds(2)); }

task<void> socket::end(int directions, std::chrono::nanoseconds linger_timeout) {
    // A peer that keeps sending is not owed more than this.
    constexpr std::size_t linger_bytes_max = 1 << 20;
    // From here on other tasks find a closed socket.
    const fd connected = std::move(fd_);
    if (!connected) co_return;
    if (receiving_.taken() || sending_.taken()) {
        receiving_.cancel();
        sending_.cancel();  // no further step of it uses the number of the descriptor
        loop_->submit();    // first: after the shutdown it would read as the peer's end
    }
    receive_stream bytes =
        bytes_ ? *std::exchange(bytes_, std::nullopt) : receive_stream(*loop_, connected);
    bytes.stop_next();
    const auto limit = co_await within(linger_timeout);
    // Called directly: it never waits, and the ring gives every IORING_OP_SHUTDOWN to a worker.
    const bool shut = loop_->system().shutdown(connected.number(), directions) == 0;
    std::size_t drained_bytes = 0;
    while (shut && drained_bytes < linger_bytes_max) {
        const auto got = co_await bytes.next();
        if (!got || got->empty()) break;
        drained_bytes += got->size();
    }
}

fd socket::release() noexcept {
    const bool has_requests = bytes_.has_value() || receiving_.taken() || sending_.taken();
    receiving_.cancel();
    sending_.cancel();
    if (bytes_) bytes_->stop_next();
    bytes_.reset();
    // A request moves bytes until the kernel has received its cancel.
    if (has_requests) loop_->submit();
    return std::move(fd_);
}

result<endpoint> socket::local() const noexcept {
    endpoint name;
    socklen_t bytes = endpoint::capacity();
    if (::getsockname(fd_.number(), name.address(), &bytes) != 0) return error_from_errno();
    name.set_address_bytes(bytes);
    return name;
}

result<endpoint> socket::peer() const noexcept {
    endpoint name;
    socklen_t bytes = endpoint::capacity();
    if (::getpeername(fd_.number(), name.address(), &bytes) != 0) return error_from_errno();
    name.set_address_bytes(bytes);
    return name;
}

}  // namespace kevring
