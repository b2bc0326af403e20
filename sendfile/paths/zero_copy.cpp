// zero_copy.cpp: ring reads into one half of a window while the network device sends the other.
#include <kevring/sendfile/detail/window_pool.hpp>
#include <kevring/sendfile/detail/zero_copy_send.hpp>
#include <kevring/sendfile/paths/paths.hpp>

#include <array>
#include <memory>
#include <span>

namespace kevring::detail {
namespace {

bool is_unsupported_error(const std::error_code& error) noexcept {
    return error == std::errc::invalid_argument || error == std::errc::operation_not_supported;
}

// Each send from plain memory locks its pages, within RLIMIT_MEMLOCK. Other paths lock none.
bool is_memory_error(const std::error_code& error) noexcept {
    return error == std::errc::not_enough_memory || error == std::errc::no_buffer_space;
}

// Sends all of `bytes`; the kernel may still use the memory of `last`. Earlier requests of the same
// half live until their notification, and share the window.
task<std::error_code> send_half(transfer& transfer, const std::shared_ptr<zero_copy_window>& window,
                                std::span<const std::byte> bytes, zero_copy_handle& last) {
    while (!bytes.empty()) {
        const bool more = bytes.size() < transfer.plan.bytes_left();
        last.reset(new zero_copy_send(transfer.loop, transfer.socket, window, bytes, more));
        const result<std::size_t> sent = co_await last->sent();
        if (!sent) co_return sent.error();
        transfer.record_sent(send_path::zero_copy, *sent);
        if (window->fixed() != nullptr) transfer.report.registered_bytes += *sent;
        bytes = bytes.subspan(*sent);
        if (!bytes.empty()) {
            const result<std::size_t> free = co_await last->released();
            if (!free) co_return free.error();
        }
    }
    co_return std::error_code{};
}

}  // namespace

task<std::error_code> run_zero_copy_path(transfer& transfer) {
    constexpr send_path path = send_path::zero_copy;
    constexpr std::size_t half_bytes = window_bytes / 2;
    const auto window = std::make_shared<zero_copy_window>(transfer.loop);
    std::array<zero_copy_handle, 2> pending;
    for (std::size_t half = 0; !transfer.plan.done(); half = 1 - half) {
        const send_step frame = transfer.plan.single(0);
        if (frame.byte_count() > 0) {
            const std::error_code error =
                co_await send_header_or_trailer_nowait(transfer, path, frame);
            if (error) co_return error;
            continue;
        }
        const std::error_code stopped = co_await wait_for_budget(transfer, false);
        if (stopped) co_return stopped;
        if (pending[half]) {
            const result<std::size_t> free = co_await pending[half]->released();
            if (!free) co_return free.error();
            const bool copied = pending[half]->copied();
            pending[half].reset();
            if (copied) {
                transfer.report.kernel_copied = true;
                if (!transfer.forced()) {
                    transfer.mark_unsupported(
                        path);  // it costs more than a plain send, without a gain
                    co_return std::error_code{};
                }
            }
        }
        const send_step step = transfer.plan.single(transfer.step_bytes_max(half_bytes));
        const std::span<std::byte> bytes =
            window->bytes().subspan(half * half_bytes, step.file_bytes);
        const std::error_code read =
            co_await read_all(transfer, bytes, step.file_offset, window->fixed());
        if (read) co_return read;
        if (step.ends_file)
            if (const std::error_code changed = transfer.check_version()) co_return changed;
        const std::uint64_t before = transfer.plan.file_sent();
        const std::error_code error = co_await send_half(transfer, window, bytes, pending[half]);
        const bool not_here = is_unsupported_error(error) && transfer.plan.file_sent() == before;
        if (not_here || is_memory_error(error)) {
            transfer.mark_unsupported(path);
            co_return std::error_code{};
        }
        if (error) co_return error;
    }
    // Does not wait for the last notifications: the peer may be slow to acknowledge.
    for (const zero_copy_handle& each : pending)
        if (each && each->copied()) transfer.report.kernel_copied = true;
    co_return std::error_code{};
}

}  // namespace kevring::detail
