// wait_limit.hpp: until when a call may wait, and how long that is from now on.
#pragma once

#include <kevring/runtime/clock.hpp>
#include <kevring/runtime/kernel.hpp>

#include <algorithm>
#include <cstdint>

#include <time.h>

namespace kevring::detail {

/// Until when a call may wait.
struct wait_limit {
    enum class kind : std::uint8_t { never, forever, relative, steady, realtime };
    kind clock = kind::never;
    std::int64_t deadline_ns =
        0;  // on that clock; relative: the time from the beginning of the wait

    static wait_limit no_wait() noexcept { return {}; }
    static wait_limit forever() noexcept { return {kind::forever, 0}; }

    /// Replaces the time from the beginning of the wait by its end: the wait begins now.
    void begin() noexcept {
        if (clock != kind::relative) return;
        clock = kind::steady;
        deadline_ns = add_ns(kernel::real().steady_ns(), nanoseconds(deadline_ns));
    }
};

// A wait on the realtime clock sleeps at most this long, to follow a clock that is set. A wait
// without limit sleeps a day at most, since every sleep has a deadline.
inline constexpr std::int64_t realtime_slice_ns = 1'000'000'000;
inline constexpr std::int64_t slice_ns_max = std::int64_t{24 * 3600} * 1'000'000'000;

inline std::int64_t realtime_ns() noexcept {
    timespec now{};
    ::clock_gettime(CLOCK_REALTIME, &now);
    return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

/// How long a wait may last from now on.
inline std::int64_t remaining_ns(wait_limit limit) noexcept {
    switch (limit.clock) {
        case wait_limit::kind::forever: return slice_ns_max;
        case wait_limit::kind::steady: return limit.deadline_ns - kernel::real().steady_ns();
        case wait_limit::kind::realtime: return limit.deadline_ns - realtime_ns();
        case wait_limit::kind::relative: return limit.deadline_ns;
        case wait_limit::kind::never: break;
    }
    return 0;
}

/// How long one sleep of such a wait may last.
inline std::int64_t slice_of(wait_limit limit, std::int64_t left_ns) noexcept {
    return std::min(left_ns,
                    limit.clock == wait_limit::kind::realtime ? realtime_slice_ns : slice_ns_max);
}

inline timespec timespec_of(std::int64_t ns) noexcept {
    timespec time{};
    time.tv_sec = ns / 1'000'000'000;
    time.tv_nsec = ns % 1'000'000'000;
    return time;
}

}  // namespace kevring::detail
