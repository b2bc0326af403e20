// send_plan.hpp: the byte ranges of each step of a transfer. Computes only, no I/O.
#pragma once

#include <kevring/runtime/detail/language.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>

namespace kevring {

namespace detail {

/// The sum of all, or the largest number of the type where that is too small.
template <class Number>
constexpr Number saturating_sum(std::initializer_list<Number> numbers) noexcept {
    Number sum = 0;
    for (const Number number : numbers)
        sum = number > std::numeric_limits<Number>::max() - sum ? std::numeric_limits<Number>::max()
                                                                : sum + number;
    return sum;
}

}  // namespace detail

/// A part of a file. The end, offset + count, is at most INT64_MAX; send_file() rejects others.
struct file_range {
    /// As `count`: up to the end of the file when the transfer begins.
    static constexpr std::uint64_t to_end = std::numeric_limits<std::uint64_t>::max();

    std::uint64_t offset = 0;
    std::uint64_t count = to_end;
};

/// The bytes of one step: parts of header, file and trailer, in this order.
struct send_step {
    std::size_t header_bytes = 0;
    std::uint64_t file_offset = 0;
    std::size_t file_bytes = 0;
    std::size_t trailer_bytes = 0;
    bool more = false;       // other steps follow (MSG_MORE)
    bool ends_file = false;  // the last byte of the file is in this step

    /// At most SIZE_MAX.
    std::size_t byte_count() const noexcept {
        return detail::saturating_sum<std::size_t>({header_bytes, file_bytes, trailer_bytes});
    }
};

/// A position in header, file and trailer, and the steps from there. The kernel may accept any part
/// of a step; the plan continues at the next byte.
class send_plan {
public:
    send_plan(std::size_t header_bytes, file_range file, std::size_t trailer_bytes) noexcept
        : header_bytes_(header_bytes), file_(file), trailer_bytes_(trailer_bytes) {}

    /// A step through memory: the rest of the header, at most `file_bytes_max` bytes of the file,
    /// and the trailer if the file ends in this step.
    send_step gathered(std::size_t file_bytes_max) const noexcept;
    /// A step without a copy to memory: bytes of header, file or trailer alone.
    send_step single(std::size_t file_bytes_max) const noexcept;

    /// The kernel has accepted `count` more bytes, at most all.
    void advance(std::uint64_t count) noexcept;
    /// The file ends at `file_offset`, or after the bytes that were sent, whichever is later.
    void end_file_at(std::uint64_t file_offset) noexcept;

    std::size_t header_sent() const noexcept {
        return static_cast<std::size_t>(std::min<std::uint64_t>(sent_, header_bytes_));
    }
    std::uint64_t file_sent() const noexcept {
        return std::min(sent_ - header_sent(), file_.count);
    }
    std::size_t trailer_sent() const noexcept {
        return static_cast<std::size_t>(sent_ - header_sent() - file_sent());
    }
    std::uint64_t bytes_sent() const noexcept { return sent_; }

    std::size_t header_left() const noexcept { return header_bytes_ - header_sent(); }
    std::uint64_t file_left() const noexcept { return file_.count - file_sent(); }
    std::size_t trailer_left() const noexcept { return trailer_bytes_ - trailer_sent(); }
    /// At most UINT64_MAX.
    std::uint64_t bytes_left() const noexcept {
        return detail::saturating_sum<std::uint64_t>({header_left(), file_left(), trailer_left()});
    }
    bool done() const noexcept { return bytes_left() == 0; }
    /// The next byte, if any, belongs to the header or the trailer.
    bool in_header_or_trailer() const noexcept { return header_left() > 0 || file_left() == 0; }

    /// The next byte of the file to send, and the one after the last; at most UINT64_MAX.
    std::uint64_t file_offset() const noexcept {
        return detail::saturating_sum<std::uint64_t>({file_.offset, file_sent()});
    }
    std::uint64_t file_end() const noexcept {
        return detail::saturating_sum<std::uint64_t>({file_.offset, file_.count});
    }

private:
    std::size_t header_bytes_;
    file_range file_;
    std::size_t trailer_bytes_;
    std::uint64_t sent_ = 0;
};

/// The time at which the next bytes may be sent so that the average rate since the begin stays
/// within a limit.
class send_pace {
public:
    /// `bytes_per_second` of 0: no limit.
    send_pace(std::uint64_t bytes_per_second, std::int64_t begin_ns) noexcept
        : bytes_per_second_(bytes_per_second), begin_ns_(begin_ns) {}

    bool limited() const noexcept { return bytes_per_second_ != 0; }
    /// The largest step: the bytes of 50 ms at this rate, at least one.
    std::size_t step_bytes_max(std::size_t unlimited) const noexcept;
    /// The time at which the step after `bytes_sent` bytes may begin.
    std::int64_t due_ns(std::uint64_t bytes_sent) const noexcept;

private:
    std::uint64_t bytes_per_second_;
    std::int64_t begin_ns_;
};

}  // namespace kevring
