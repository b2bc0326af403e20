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
task<std::error_code> carry_by_read_send(transfer& of) {
    constexpr send_path path = send_path::read_send;
    if (of.plan.file_left() == 0) {
        const send_step frame = of.plan.gathered(0);
        co_return co_await send_from_memory(of, path, frame, std::span<const std::byte>());
    }

    const window_buffer buffer(window_buffer::size_class::window);
    constexpr std::size_t half_bytes = window_bytes / 2;
    std::span<std::byte> sending = buffer.bytes().first(half_bytes);
    std::span<std::byte> reading = buffer.bytes().subspan(half_bytes);
    const std::size_t piece_bytes_max = of.step_bytes_max(half_bytes);

    send_step step = of.plan.gathered(piece_bytes_max);
    std::error_code error = co_await read_all(of, sending.first(step.file_bytes), step.file_offset);
    while (!error) {
        if (step.ends_file) error = of.check_version();
        if (error) break;
        error = co_await wait_for_turn(of, false);
        if (error) break;

        const std::uint64_t next_offset = step.file_offset + step.file_bytes;
        const auto next_bytes = static_cast<std::size_t>(
            std::min<std::uint64_t>(piece_bytes_max, of.plan.file_end() - next_offset));
        if (next_bytes == 0 || of.suits_sendfile(next_offset)) {
            error = co_await send_from_memory(of, path, step, sending.first(step.file_bytes));
            break;
        }
        task<std::error_code> send =
            send_from_memory(of, path, step, sending.first(step.file_bytes));
        task<std::error_code> read = read_all(of, reading.first(next_bytes), next_offset);
        const auto [sent, got] = co_await when_all(std::move(send), std::move(read));
        error = sent ? sent : got;
        std::swap(sending, reading);
        step = of.plan.gathered(piece_bytes_max);
    }
    co_return error;
}

}  // namespace kevring::detail
