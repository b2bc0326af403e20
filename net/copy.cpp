#include <kevring/net/copy.hpp>

#include <kevring/runtime/task_scope.hpp>

#include <cerrno>
#include <span>

#include <sys/socket.h>

namespace kevring {
namespace {

task<std::error_code> copy_all(socket& source, socket& target, std::uint64_t& byte_count) {
    while (true) {
        const auto received = co_await source.receive();
        if (!received) co_return received.error();
        if (received->empty()) break;
        const auto sent = co_await target.send(received->bytes());
        if (!sent) co_return sent.error();
        byte_count += *sent;
        if (*sent != received->size()) co_return std::make_error_code(std::errc::broken_pipe);
    }
    // Called directly: it never waits, and the ring gives every IORING_OP_SHUTDOWN to a worker.
    const int shut = target.loop().system().shutdown(target.native().number(), SHUT_WR);
    // A peer that has closed already needs no end.
    if (shut < 0 && shut != -ENOTCONN) co_return std::error_code(-shut, std::system_category());
    co_return std::error_code();
}

task<void> copy_one_of_both(socket& source, socket& target, std::uint64_t& byte_count,
                            std::error_code& error, task_scope& both) {
    const std::error_code failure = co_await copy_all(source, target, byte_count);
    if (!failure || error) co_return;
    error = failure;  // first: the stop makes the other direction fail too
    both.request_stop();
}

}  // namespace

task<result<std::uint64_t>> copy(socket& source, socket& target) {
    std::uint64_t byte_count = 0;
    const std::error_code failure = co_await copy_all(source, target, byte_count);
    if (failure) co_return tl::unexpected(failure);
    co_return byte_count;
}

task<copy_both_result> copy_both(socket& first, socket& second) {
    copy_both_result copied;
    auto body = [&](task_scope& both) -> task<void> {
        both.spawn(copy_one_of_both(first, second, copied.to_second, copied.error, both));
        both.spawn(copy_one_of_both(second, first, copied.to_first, copied.error, both));
        co_return;
    };
    co_await in_scope(body);
    co_return copied;
}

}  // namespace kevring
