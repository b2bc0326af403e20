// send.cpp: header, file bytes and trailer in one send, from one buffer.
#include <kevring/runtime/operations/send.hpp>
#include <kevring/sendfile/detail/window_pool.hpp>
#include <kevring/sendfile/paths/paths.hpp>

#include <cerrno>
#include <cstring>
#include <span>

#include <sys/socket.h>

namespace kevring::detail {
namespace {

std::byte* append(std::byte* target, const send_buffers& buffers) noexcept {
    for (std::size_t i = 0; i < buffers.size(); ++i) {
        const std::span<const std::byte> bytes = buffers[i];
        if (!bytes.empty()) std::memcpy(target, bytes.data(), bytes.size());
        target += bytes.size();
    }
    return target;
}

}  // namespace

task<std::error_code> run_send_path(transfer& transfer) {
    constexpr send_path path = send_path::send;
    window_buffer buffer(window_buffer::size_class::small);
    bool moved_this_iteration = false;
    while (!transfer.plan.done()) {
        const std::error_code stopped = co_await wait_for_budget(transfer, moved_this_iteration);
        if (stopped) co_return stopped;
        moved_this_iteration = true;
        const send_step step = transfer.plan.gathered(transfer.step_bytes_max(small_file_bytes));

        // A small header and trailer are copied to the buffer of the file: one buffer costs the
        // kernel less than a list. Large and partly sent ones are sent as a list.
        const bool whole = transfer.plan.bytes_sent() == 0 && !step.more &&
                           step.header_bytes + step.trailer_bytes <= header_trailer_bytes;
        std::byte* const begin = buffer.bytes().data();
        std::byte* const body = whole ? append(begin, transfer.options.header) : begin;
        const std::span<std::byte> file_bytes(body, step.file_bytes);
        if (step.file_bytes > 0) {
            // first: without a wait, because bytes in the page cache need no loop iteration.
            const iovec part{body, step.file_bytes};
            const ssize_t at_once = transfer.loop.system().read_nowait(
                transfer.file.number(), &part, 1, static_cast<off_t>(step.file_offset));
            if (at_once == 0) co_return send_errc::file_shrank;
            const std::size_t got = at_once < 0 ? 0 : static_cast<std::size_t>(at_once);
            if (got < step.file_bytes) {
                const std::error_code error =
                    co_await read_all(transfer, file_bytes.subspan(got), step.file_offset + got);
                if (error) co_return error;
            }
        }
        if (step.ends_file)
            if (const std::error_code changed = transfer.check_version()) co_return changed;

        if (!whole) {
            const std::error_code error =
                co_await send_from_memory(transfer, path, step, file_bytes);
            if (error) co_return error;
            continue;
        }
        const std::byte* const end = append(body + step.file_bytes, transfer.options.trailer);
        send_operation send(transfer.loop, transfer.socket, std::span<const std::byte>(begin, end));
        const send_result sent = co_await send;
        transfer.record_sent(path, sent.bytes_sent());
        if (!sent) co_return sent.error();
    }
    co_return std::error_code{};
}

}  // namespace kevring::detail
