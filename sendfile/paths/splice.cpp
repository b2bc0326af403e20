// splice.cpp: a worker of the kernel moves pages into a pipe, the loop moves them on to the socket.
#include <kevring/runtime/operations/splice.hpp>
#include <kevring/sendfile/detail/pipe_pool.hpp>
#include <kevring/sendfile/detail/window_pool.hpp>
#include <kevring/sendfile/paths/paths.hpp>

#include <algorithm>
#include <cerrno>

#include <fcntl.h>

namespace kevring::detail {
namespace {

// Moves what is in the pipe to the socket. The pages are in memory: this never waits for a disk,
// and where the socket is full, the loop waits.
task<std::error_code> drain(transfer& of, pooled_pipe& pipe, bool more) {
    constexpr send_path path = send_path::splice;
    while (pipe.held_bytes > 0) {
        const ssize_t sent =
            of.on.system().splice_now(pipe.read_end().number(), nullptr, of.socket.number(),
                                      pipe.held_bytes, SPLICE_F_MOVE | (more ? SPLICE_F_MORE : 0));
        if (sent > 0) {
            pipe.held_bytes -= static_cast<std::size_t>(sent);
            of.taken(path, static_cast<std::uint64_t>(sent));
            count_in_turn(of.on, static_cast<std::size_t>(sent));
        } else if (sent == -EAGAIN || sent == 0) {
            const std::error_code error = co_await wait_writable(of);
            if (error) co_return error;
        } else if (sent != -EINTR) {
            if (sent == -EPIPE) forget_broken_pipe();
            co_return std::error_code(static_cast<int>(-sent), std::system_category());
        }
    }
    co_return std::error_code{};
}

}  // namespace

// As with sendfile(2), the peer gets the pages of the page cache as they are when the network
// device takes them.
task<std::error_code> carry_by_splice(transfer& of) {
    constexpr send_path path = send_path::splice;
    pooled_pipe pipe(of.on.system());
    // splice(2) with SPLICE_F_NONBLOCK waits for a socket all the same, unless O_NONBLOCK is set.
    if (!pipe || !of.may_call_directly()) {
        of.refuse(path);
        co_return std::error_code{};
    }
    quiet_broken_pipes();
    while (!of.plan.done()) {
        const send_step frame = of.plan.single(0);
        if (frame.byte_count() > 0) {
            const std::error_code error = co_await send_frame_now(of, path, frame);
            if (error) co_return error;
            continue;
        }
        const std::error_code stopped = co_await wait_for_turn(of, false);
        if (stopped) co_return stopped;
        if (of.suits_sendfile(of.plan.file_offset())) co_return std::error_code{};

        const send_step step =
            of.plan.single(std::min<std::size_t>(pipe.capacity(), of.step_bytes_max(window_bytes)));
        splice_operation fill(of.on, of.file, static_cast<std::int64_t>(step.file_offset),
                              pipe.write_end(), -1, step.file_bytes, SPLICE_F_MOVE);
        const result<std::size_t> got = co_await fill;
        if (!got) {
            if (got.error() != std::errc::invalid_argument) co_return got.error();
            of.refuse(path);
            co_return std::error_code{};
        }
        if (*got == 0) co_return send_errc::file_shrank;
        pipe.held_bytes = *got;
        const bool ends_file = *got == of.plan.file_left();
        if (ends_file)
            if (const std::error_code changed = of.check_version()) co_return changed;
        const bool more = *got < of.plan.bytes_left();
        const std::error_code error = co_await drain(of, pipe, more);
        if (error) co_return error;
    }
    co_return std::error_code{};
}

}  // namespace kevring::detail
