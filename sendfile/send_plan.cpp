#include <kevring/sendfile/send_plan.hpp>

#include <kevring/runtime/assert.hpp>
#include <kevring/runtime/clock.hpp>

#include <algorithm>

namespace kevring {

send_step send_plan::gathered(std::size_t file_bytes_max) const noexcept {
    send_step step;
    step.header_bytes = header_left();
    step.file_offset = file_offset();
    step.file_bytes =
        static_cast<std::size_t>(std::min<std::uint64_t>(file_left(), file_bytes_max));
    const bool at_end = step.file_bytes == file_left();
    step.ends_file = at_end && step.file_bytes > 0;
    if (at_end) step.trailer_bytes = trailer_left();
    step.more = step.byte_count() < bytes_left();
    return step;
}

send_step send_plan::single(std::size_t file_bytes_max) const noexcept {
    send_step step = gathered(file_bytes_max);
    if (step.header_bytes > 0) {
        step.file_bytes = 0;
        step.ends_file = false;
        step.trailer_bytes = 0;
    } else if (step.file_bytes > 0) {
        step.trailer_bytes = 0;
    }
    step.more = step.byte_count() < bytes_left();
    return step;
}

void send_plan::advance(std::uint64_t count) noexcept {
    KEVRING_ASSERT(count <= bytes_left(),
                   "send_plan advanced past its end; advance by at most bytes_left()");
    sent_ += count;
}

void send_plan::end_file_at(std::uint64_t file_offset) noexcept {
    const std::uint64_t there = file_offset - std::min(file_offset, file_.offset);
    file_.count = std::min(file_.count, std::max(there, file_sent()));
}

std::size_t send_pace::step_bytes_max(std::size_t unlimited) const noexcept {
    if (!limited() || unlimited == 0) return unlimited;
    return static_cast<std::size_t>(
        std::clamp<std::uint64_t>(bytes_per_second_ / 20, 1, unlimited));
}

std::int64_t send_pace::due_ns(std::uint64_t bytes_sent) const noexcept {
    if (!limited()) return begin_ns_;
    // In two parts: the bytes of a long transfer times 10^9 do not fit into 64 bits.
    const std::uint64_t seconds = bytes_sent / bytes_per_second_;
    const std::uint64_t rest = bytes_sent % bytes_per_second_;
    const auto rest_ns = static_cast<std::uint64_t>(static_cast<double>(rest) * 1e9 /
                                                    static_cast<double>(bytes_per_second_));
    constexpr std::uint64_t seconds_max = 1'000'000'000;  // 31 years
    if (seconds >= seconds_max) return never_ns;
    return add_ns(begin_ns_, nanoseconds(seconds * 1'000'000'000 + rest_ns));
}

}  // namespace kevring
