// zero_copy.cpp: ring reads into one half of a window while the network device sends the other.
#include <kevring/sendfile/detail/window_pool.hpp>
#include <kevring/sendfile/detail/zero_copy_send.hpp>
#include <kevring/sendfile/paths/paths.hpp>

#include <array>
#include <memory>
#include <span>

namespace kevring::detail {
namespace {

bool says_unsupported(const std::error_code& error) noexcept {
    return error == std::errc::invalid_argument || error == std::errc::operation_not_supported;
}

// Pages of plain memory are locked for each send, within RLIMIT_MEMLOCK. Others may do without.
bool says_no_memory(const std::error_code& error) noexcept {
    return error == std::errc::not_enough_memory || error == std::errc::no_buffer_space;
}

// Sends all of `bytes`; `last` is the request that the kernel may still hold memory for. Earlier
// ones of the same half are let go by themselves, with their share of the buffer.
task<std::error_code> send_half(transfer& of, const std::shared_ptr<zero_copy_window>& window,
                                std::span<const std::byte> bytes, zero_copy_handle& last) {
    while (!bytes.empty()) {
        const bool more = bytes.size() < of.plan.bytes_left();
        last.reset(new zero_copy_send(of.on, of.socket, window, bytes, more));
        const result<std::size_t> sent = co_await last->sent();
        if (!sent) co_return sent.error();
        of.taken(send_path::zero_copy, *sent);
        if (window->fixed() != nullptr) of.report.registered_bytes += *sent;
        bytes = bytes.subspan(*sent);
        if (!bytes.empty()) {
            const result<std::size_t> free = co_await last->released();
            if (!free) co_return free.error();
        }
    }
    co_return std::error_code{};
}

}  // namespace

task<std::error_code> carry_by_zero_copy(transfer& of) {
    constexpr send_path path = send_path::zero_copy;
    constexpr std::size_t half_bytes = window_bytes / 2;
    const auto window = std::make_shared<zero_copy_window>(of.on);
    std::array<zero_copy_handle, 2> pending;
    for (std::size_t half = 0; !of.plan.done(); half = 1 - half) {
        const send_step frame = of.plan.single(0);
        if (frame.byte_count() > 0) {
            const std::error_code error = co_await send_frame_now(of, path, frame);
            if (error) co_return error;
            continue;
        }
        const std::error_code stopped = co_await wait_for_turn(of, false);
        if (stopped) co_return stopped;
        if (pending[half]) {
            const result<std::size_t> free = co_await pending[half]->released();
            if (!free) co_return free.error();
            const bool copied = pending[half]->copied();
            pending[half].reset();
            if (copied) {
                of.report.kernel_copied = true;
                if (!of.forced()) {
                    of.refuse(path);  // it costs more than a plain send, and gives nothing
                    co_return std::error_code{};
                }
            }
        }
        const send_step step = of.plan.single(of.step_bytes_max(half_bytes));
        const std::span<std::byte> bytes =
            window->bytes().subspan(half * half_bytes, step.file_bytes);
        const std::error_code read =
            co_await read_all(of, bytes, step.file_offset, window->fixed());
        if (read) co_return read;
        if (step.ends_file)
            if (const std::error_code changed = of.check_version()) co_return changed;
        const std::uint64_t before = of.plan.file_sent();
        const std::error_code error = co_await send_half(of, window, bytes, pending[half]);
        const bool not_here = says_unsupported(error) && of.plan.file_sent() == before;
        if (not_here || says_no_memory(error)) {
            of.refuse(path);
            co_return std::error_code{};
        }
        if (error) co_return error;
    }
    // The kernel's last words are not waited for: the peer may be slow to acknowledge.
    for (const zero_copy_handle& each : pending)
        if (each && each->copied()) of.report.kernel_copied = true;
    co_return std::error_code{};
}

}  // namespace kevring::detail
