// clock.hpp: time on std::chrono::steady_clock; the names of raw numbers end with `_ns`.
#pragma once

#include <chrono>
#include <cstdint>
#include <limits>

namespace kevring {

using steady_time = std::chrono::steady_clock::time_point;
using nanoseconds = std::chrono::nanoseconds;

/// The latest representable deadline, which never expires.
inline constexpr std::int64_t never_ns = std::numeric_limits<std::int64_t>::max();

/// Converts a time to nanoseconds since the clock's epoch.
inline std::int64_t to_ns(steady_time time) noexcept {
    return std::chrono::duration_cast<nanoseconds>(time.time_since_epoch()).count();
}

/// Adds a duration to `now_ns`. A sum that overflows is `never_ns`; a negative duration counts as 0.
inline std::int64_t add_ns(std::int64_t now_ns, nanoseconds duration) noexcept {
    const std::int64_t more_ns = duration.count() < 0 ? 0 : duration.count();
    return more_ns > never_ns - now_ns ? never_ns : now_ns + more_ns;
}

}  // namespace kevring
