// splice.cpp: a worker thread of the kernel fills a pipe, and the loop empties it to the socket.
#include <kevring/runtime/operations/splice.hpp>
#include <kevring/sendfile/detail/pipe_pool.hpp>
#include <kevring/sendfile/detail/window_pool.hpp>
#include <kevring/sendfile/paths/paths.hpp>

#include <algorithm>
#include <cerrno>

#include <fcntl.h>

namespace kevring::detail {
namespace {

// Moves the pages in the pipe to the socket. They are in memory, so this never waits for a disk;
// while the socket is full, the transfer waits for it.
task<std::error_code> drain(transfer& transfer, pooled_pipe& pipe, bool more) {
    constexpr send_path path = send_path::splice;
    while (pipe.buffered_bytes > 0) {
        const unsigned flags = SPLICE_F_MOVE | (more ? SPLICE_F_MORE : 0);
        ssize_t sent = 0;
        if (transfer.may_still_call_directly()) {
            sent = transfer.loop.system().splice_nowait(pipe.read_end().number(), nullptr,
                                                        transfer.socket.number(),
                                                        pipe.buffered_bytes, flags);
        } else {  // a thread of the kernel waits for the peer
            splice_operation empty(transfer.loop, pipe.read_end(), -1, transfer.socket, -1,
                                   pipe.buffered_bytes, flags);
            const result<std::size_t> moved = co_await empty;
            if (!moved) co_return moved.error();
            sent = static_cast<ssize_t>(*moved);
        }
        if (sent > 0) {
            pipe.buffered_bytes -= static_cast<std::size_t>(sent);
            transfer.record_sent(path, static_cast<std::uint64_t>(sent));
            charge_budget(transfer.loop, static_cast<std::size_t>(sent));
        } else if (sent == -EAGAIN || sent == 0) {
            const std::error_code error = co_await wait_writable(transfer);
            if (error) co_return error;
        } else if (sent != -EINTR) {
            if (sent == -EPIPE) discard_pending_sigpipe();
            co_return std::error_code(static_cast<int>(-sent), std::system_category());
        }
    }
    co_return std::error_code{};
}

}  // namespace

// As with sendfile(2), the peer gets the content that the pages have when the network device reads
// them.
task<std::error_code> run_splice_path(transfer& transfer) {
    constexpr send_path path = send_path::splice;
    pooled_pipe pipe(transfer.loop.system());
    // splice(2) with SPLICE_F_NONBLOCK waits for a socket nevertheless, unless it has O_NONBLOCK.
    if (!pipe || !transfer.may_call_directly()) {
        transfer.mark_unsupported(path);
        co_return std::error_code{};
    }
    block_sigpipe();
    while (!transfer.plan.done()) {
        const send_step frame = transfer.plan.single(0);
        if (frame.byte_count() > 0) {
            const std::error_code error =
                co_await send_header_or_trailer_nowait(transfer, path, frame);
            if (error) co_return error;
            continue;
        }
        const std::error_code stopped = co_await wait_for_budget(transfer, false);
        if (stopped) co_return stopped;
        if (transfer.suits_sendfile(transfer.plan.file_offset())) co_return std::error_code{};

        const send_step step = transfer.plan.single(
            std::min<std::size_t>(pipe.capacity(), transfer.step_bytes_max(window_bytes)));
        splice_operation fill(transfer.loop, transfer.file,
                              static_cast<std::int64_t>(step.file_offset), pipe.write_end(), -1,
                              step.file_bytes, SPLICE_F_MOVE);
        const result<std::size_t> got = co_await fill;
        if (!got) {
            if (got.error() != std::errc::invalid_argument) co_return got.error();
            transfer.mark_unsupported(path);
            co_return std::error_code{};
        }
        if (*got == 0) co_return send_errc::file_shrank;
        pipe.buffered_bytes = *got;
        const bool ends_file = *got == transfer.plan.file_left();
        if (ends_file)
            if (const std::error_code changed = transfer.check_version()) co_return changed;
        const bool more = *got < transfer.plan.bytes_left();
        const std::error_code error = co_await drain(transfer, pipe, more);
        if (error) co_return error;
    }
    co_return std::error_code{};
}

}  // namespace kevring::detail
