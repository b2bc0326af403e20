// read_send.cpp: the ring reads one half of a window while the other is sent.
#include <kevring/runtime/when.hpp>
#include <kevring/sendfile/detail/window_pool.hpp>
#include <kevring/sendfile/paths/paths.hpp>

#include <algorithm>
#include <array>
#include <span>
#include <tuple>
#include <utility>

namespace kevring::detail {
task<std::error_code> run_read_send_path(transfer& transfer) {
    constexpr send_path path = send_path::read_send;
    if (transfer.plan.file_left() == 0) {
        const send_step frame = transfer.plan.gathered(0);
        co_return co_await send_from_memory(transfer, path, frame, std::span<const std::byte>());
    }

    const window_buffer buffer(window_buffer::size_class::window);
    constexpr std::size_t half_bytes = window_bytes / 2;
    std::span<std::byte> sending = buffer.bytes().first(half_bytes);
    std::span<std::byte> reading = buffer.bytes().subspan(half_bytes);
    const std::size_t piece_bytes_max = transfer.step_bytes_max(half_bytes);

    send_step step = transfer.plan.gathered(piece_bytes_max);
    std::error_code error =
        co_await read_all(transfer, sending.first(step.file_bytes), step.file_offset);
    while (!error) {
        if (step.ends_file) error = transfer.check_version();
        if (error) break;
        error = co_await wait_for_budget(transfer, false);
        if (error) break;

        const std::uint64_t next_offset = step.file_offset + step.file_bytes;
        const auto next_bytes = static_cast<std::size_t>(
            std::min<std::uint64_t>(piece_bytes_max, transfer.plan.file_end() - next_offset));
        if (next_bytes == 0 || transfer.suits_sendfile(next_offset)) {
            error = co_await send_from_memory(transfer, path, step, sending.first(step.file_bytes));
            break;
        }
        task<std::error_code> send =
            send_from_memory(transfer, path, step, sending.first(step.file_bytes));
        task<std::error_code> read = read_all(transfer, reading.first(next_bytes), next_offset);
        const auto [sent, got] = co_await when_all(std::move(send), std::move(read));
        error = sent ? sent : got;
        std::swap(sending, reading);
        step = transfer.plan.gathered(piece_bytes_max);
    }
    co_return error;
}

}  // namespace kevring::detail
