#include <kevring/net/socket.hpp>

#include <kevring/runtime/deadline.hpp>
#include <kevring/runtime/task_scope.hpp>

#include <algorithm>

#include <sys/socket.h>

namespace kevring {

// No request: a worker thread of the kernel would look up the descriptor when it begins, and the number may
// be another socket's by then.
task<result<void>> socket::shutdown_send() {
    if (loop_->created_by_parent_process())
        co_return error_from(std::errc::operation_not_permitted);
    if (sending_.taken()) loop_->submit();  // first: the bytes of a send precede the end
    const int failure = loop_->system().shutdown(fd_.number(), SHUT_WR);
    if (failure < 0) co_return error_from(failure);
    co_return result<void>();
}

task<send_result> socket::send_parts(std::vector<iovec> parts, int flags) {
    constexpr std::size_t part_count_max = 1024;  // IOV_MAX
    std::size_t bytes_sent = 0;
    if (!fd_) co_return send_result(error_from(std::errc::bad_file_descriptor), 0);
    for (std::size_t first = 0; first < parts.size(); first += part_count_max) {
        msghdr message{};
        message.msg_iov = &parts[first];
        message.msg_iovlen = std::min(part_count_max, parts.size() - first);
        const send_result sent = co_await send(message, flags);
        bytes_sent += sent.bytes_sent();
        if (!sent) co_return send_result(tl::unexpected<std::error_code>(sent.error()), bytes_sent);
    }
    co_return send_result(bytes_sent);
}

task<void> socket::close(clamped_duration linger_timeout) { return end(SHUT_WR, linger_timeout); }

// This waits for no peer, but may wait for a buffer while other receivers have all. The shutdown
// ends the request in flight, which would have to be cancelled otherwise.
task<void> socket::close_without_lingering() { return end(SHUT_RDWR, std::chrono::seconds(2)); }

task<void> socket::end(int directions, std::chrono::nanoseconds linger_timeout) {
    // A peer that keeps sending is not owed more than this.
    constexpr std::size_t linger_bytes_max = 1 << 20;
    // From here on other tasks find a closed socket.
    const fd connected = std::move(fd_);
    if (!connected || loop_->created_by_parent_process()) co_return;
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

socket::socket(ring& loop, detached_socket detached)
    : loop_(&loop), fd_(std::move(detached.descriptor)) {
    if (detached.received.empty()) return;
    bytes_.emplace(*loop_, fd_);
    bytes_->prepend(detached.received);
}

task<result<detached_socket>> socket::detach() {
    // From here on other tasks find a closed socket.
    fd connected = std::move(fd_);
    if (!connected) co_return error_from(std::errc::bad_file_descriptor);
    ring& loop = *loop_;
    const bool has_requests = bytes_.has_value() || receiving_.taken() || sending_.taken();
    receiving_.cancel();
    sending_.cancel();
    std::vector<std::byte> received;
    std::error_code failure;
    if (bytes_) {
        receive_stream stream = *std::exchange(bytes_, std::nullopt);
        stream.stop_next();
        stream.stop_receiving();
        const auto unstoppable = co_await detail::enter_scope(loop.root_scope());
        while (!failure) {
            const auto got = co_await stream.next();
            if (!got) {
                failure = got.error();
            } else if (got->empty()) {
                break;  // the next loop receives the end again
            } else {
                received.insert(received.end(), got->bytes().begin(), got->bytes().end());
            }
        }
        // The end of a stream that was finished, unless the ring stops everything.
        if (failure == std::errc::operation_canceled && !loop.root_scope().stop_requested())
            failure.clear();
    }
    if (has_requests) loop.submit();  // the kernel ends what is left before another loop begins
    if (failure) co_return tl::unexpected(failure);
    co_return detached_socket(std::move(connected), std::move(received));
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
