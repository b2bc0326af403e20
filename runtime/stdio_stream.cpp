#include <kevring/runtime/stdio_stream.hpp>

#include <kevring/runtime/file_kernel.hpp>
#include <kevring/runtime/operations/poll.hpp>
#include <kevring/runtime/operations/read.hpp>
#include <kevring/runtime/operations/receive.hpp>
#include <kevring/runtime/operations/send.hpp>
#include <kevring/runtime/operations/write.hpp>
#include <kevring/runtime/process_kernel.hpp>
#include <kevring/runtime/sleep.hpp>
#include <kevring/runtime/task_scope.hpp>
#include <kevring/runtime/thread_pool.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

namespace kevring {
namespace {

using failure = tl::unexpected<std::error_code>;
using kind = detail::shared_descriptor::kind;

constexpr std::size_t read_bytes = 16 * 1024;

// The master of a pseudo-terminal is not opened again: that would be another one.
bool is_terminal(int number, const struct stat& status) noexcept {
    constexpr unsigned alternate_major = 5;
    constexpr unsigned master_minor = 2;
    const bool is_master =
        major(status.st_rdev) == alternate_major && minor(status.st_rdev) == master_minor;
    return S_ISCHR(status.st_mode) && !is_master && ::isatty(number) == 1;
}

}  // namespace

namespace detail {

shared_descriptor::shared_descriptor(ring& loop, fd_ref file, int access) noexcept
    : ring_(&loop), file_(file) {
    struct stat status{};
    if (loop.system().stat_file(file.number(), status) < 0) return;  // EBADF by the first request
    if (S_ISSOCK(status.st_mode)) kind_ = kind::socket;
    const int saved_errno = errno;
    if (S_ISFIFO(status.st_mode) || is_terminal(file.number(), status)) {
        std::array<char, 32> path{};
        std::snprintf(path.data(), path.size(), "/proc/self/fd/%d", file.number());
        own_.reset(std::max(-1, file_kernel::real().open_at(AT_FDCWD, path.data(),
                                                            access | O_NONBLOCK | O_NOCTTY, 0)));
        kind_ = own_ ? kind::own_pipe : kind::shared_pipe;
    } else if (S_ISCHR(status.st_mode) && ::isatty(file.number()) == 1) {
        kind_ = kind::shared_pipe;
    }
    errno = saved_errno;
}

}  // namespace detail

input_stream::input_stream(ring& loop, fd_ref file) noexcept : input_(loop, file, O_RDONLY) {}

task<result<std::size_t>> input_stream::read(std::span<std::byte> buffer) {
    if (buffer.empty()) co_return error_from(std::errc::invalid_argument);
    if (!pending_.empty()) {
        const std::size_t count = std::min(buffer.size(), pending_.size());
        std::copy_n(std::as_bytes(std::span(pending_)).begin(), count, buffer.begin());
        pending_.erase(0, count);
        scanned_ = 0;
        co_return count;
    }
    ring& loop = input_.loop();
    file_kernel& system = file_kernel::chosen_by(loop);
    const cancel_scope& scope = co_await current_scope();
    if (loop.created_by_parent_process()) co_return error_from(std::errc::operation_not_permitted);
    while (true) {
        if (input_.what() == kind::own_pipe) {
            // Read before the poll: a FIFO that has lost its last writer before it was opened again is
            // at its end, and does not poll as readable.
            if (!loop.spend_inline_budget()) co_await yield();
            if (scope.stop_requested()) co_return error_from(detail::errc_of(scope.cause()));
            const ssize_t count = system.read(input_.file().number(), buffer.data(), buffer.size());
            if (count >= 0) co_return static_cast<std::size_t>(count);
            if (count != -EAGAIN && count != -EINTR)
                co_return error_from(static_cast<std::int32_t>(count));
            poll_operation readable(loop, input_.file(), POLLIN);
            const auto ready = co_await readable;
            if (!ready) co_return failure(ready.error());
            continue;
        }
        result<std::size_t> got;
        if (input_.what() == kind::socket) {
            receive_operation receive(loop, input_.file(), buffer);
            got = co_await receive;
        } else {
            read_operation request(loop, input_.file(), buffer);
            got = co_await request;
        }
        if (got || got.error() != std::errc::resource_unavailable_try_again) co_return got;
        // Another process has set O_NONBLOCK.
        poll_operation readable(loop, input_.file(), POLLIN);
        const auto ready = co_await readable;
        if (!ready) co_return failure(ready.error());
    }
}

task<result<bool>> input_stream::read_line(std::string& line, std::size_t byte_count_max) {
    while (true) {
        const std::size_t end = pending_.find('\n', scanned_);
        if (std::min(end, pending_.size()) > byte_count_max)
            co_return error_from(std::errc::message_size);
        if (end != std::string::npos) {
            line.assign(pending_, 0, end);
            pending_.erase(0, end + 1);
            scanned_ = 0;
            co_return true;
        }
        scanned_ = pending_.size();
        std::string more(read_bytes, '\0');
        std::string before;
        before.swap(pending_);  // read() would return these bytes
        const auto count = co_await read(std::as_writable_bytes(std::span(more)));
        before.swap(pending_);
        if (!count) co_return failure(count.error());
        if (*count == 0) {
            if (pending_.empty()) co_return false;
            line = std::move(pending_);
            pending_.clear();
            scanned_ = 0;
            co_return true;
        }
        pending_.append(more, 0, *count);
    }
}

output_stream::output_stream(ring& loop, fd_ref file) noexcept : output_(loop, file, O_WRONLY) {}

task<write_result> output_stream::write(std::span<const std::byte> bytes) {
    ring& loop = output_.loop();
    process_kernel& system = process_kernel::chosen_by(loop);
    const int number = output_.file().number();
    if (output_.what() == kind::socket) {
        if (bytes.empty()) co_return write_result(0);
        send_operation send(loop, output_.file(), bytes);
        const send_result sent = co_await send;
        if (!sent) co_return write_result(failure(sent.error()), sent.bytes_sent());
        co_return write_result(bytes.size());
    }
    std::size_t written = 0;
    while (written != bytes.size()) {
        const auto rest = bytes.subspan(written);
        if (output_.what() == kind::plain) {
            write_operation request(loop, output_.file(), rest);
            const auto count = co_await request;
            if (!count) co_return write_result(failure(count.error()), written);
            if (*count == 0) co_return write_result(error_from(std::errc::io_error), written);
            written += *count;
            continue;
        }
        poll_operation writable(loop, output_.file(), POLLOUT);
        const auto ready = co_await writable;
        if (!ready) co_return write_result(failure(ready.error()), written);
        ssize_t count = 0;
        if (output_.what() == kind::own_pipe) {
            count = system.write_without_signal(number, rest.data(), rest.size());
        } else {
            // A pipe that polls as writable takes PIPE_BUF bytes, unless another process was faster:
            // then the write waits, on a thread of the pool.
            const auto part = rest.first(std::min<std::size_t>(rest.size(), PIPE_BUF));
            auto call = [&system, number, part] {
                return system.write_without_signal(number, part.data(), part.size());
            };
            const auto called = co_await blocking(call);
            if (!called) co_return write_result(failure(called.error()), written);
            count = *called;
        }
        if (count >= 0)
            written += static_cast<std::size_t>(count);
        else if (count != -EAGAIN && count != -EINTR)
            co_return write_result(error_from(static_cast<std::int32_t>(count)), written);
    }
    co_return write_result(written);
}

task<write_result> output_stream::write(std::string_view text) {
    return write(std::as_bytes(std::span(text)));
}

}  // namespace kevring
