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

std::byte* append(std::byte* at, const send_buffers& buffers) noexcept {
    for (std::size_t i = 0; i < buffers.size(); ++i) {
        const std::span<const std::byte> bytes = buffers[i];
        if (!bytes.empty()) std::memcpy(at, bytes.data(), bytes.size());
        at += bytes.size();
    }
    return at;
}

}  // namespace

task<std::error_code> carry_by_send(transfer& of) {
    constexpr send_path path = send_path::send;
    window_buffer buffer(window_buffer::size_class::small);
    bool has_moved = false;
    while (!of.plan.done()) {
        const std::error_code stopped = co_await wait_for_turn(of, has_moved);
        if (stopped) co_return stopped;
        has_moved = true;
        const send_step step = of.plan.gathered(of.step_bytes_max(small_file_bytes));

        // A whole header and trailer that are small are copied beside the file: one buffer costs
        // the kernel less than a list. What is large or half gone goes as a list.
        const bool whole = of.plan.bytes_sent() == 0 && !step.more &&
                           step.header_bytes + step.trailer_bytes <= small_frame_bytes;
        std::byte* const begin = buffer.bytes().data();
        std::byte* const body = whole ? append(begin, of.options.header) : begin;
        const std::span<std::byte> file_bytes(body, step.file_bytes);
        if (step.file_bytes > 0) {
            // First without waiting: what is in the page cache needs no turn of the loop.
            const iovec part{body, step.file_bytes};
            const ssize_t at_once = of.on.system().read_nowait(
                of.file.number(), &part, 1, static_cast<off_t>(step.file_offset));
            if (at_once == 0) co_return send_errc::file_shrank;
            const std::size_t got = at_once < 0 ? 0 : static_cast<std::size_t>(at_once);
            if (got < step.file_bytes) {
                const std::error_code error =
                    co_await read_all(of, file_bytes.subspan(got), step.file_offset + got);
                if (error) co_return error;
            }
        }
        if (step.ends_file)
            if (const std::error_code changed = of.check_version()) co_return changed;

        if (!whole) {
            const std::error_code error = co_await send_from_memory(of, path, step, file_bytes);
            if (error) co_return error;
            continue;
        }
        const std::byte* const end = append(body + step.file_bytes, of.options.trailer);
        send_operation send(of.on, of.socket, std::span<const std::byte>(begin, end));
        const send_result sent = co_await send;
        of.taken(path, sent.bytes_sent());
        if (!sent) co_return sent.error();
    }
    co_return std::error_code{};
}

}  // namespace kevring::detail
