// clock.hpp: the library's time is std::chrono::steady_clock; raw kernel numbers say `_ns`.
#pragma once

#include <chrono>
#include <cstdint>
#include <limits>

namespace kevring {

using steady_time = std::chrono::steady_clock::time_point;
using nanoseconds = std::chrono::nanoseconds;

/// The latest deadline that there is: one that never comes.
inline constexpr std::int64_t never_ns = std::numeric_limits<std::int64_t>::max();

/// `when` as nanoseconds since the clock's epoch.
inline std::int64_t to_ns(steady_time when) noexcept {
    return std::chrono::duration_cast<nanoseconds>(when.time_since_epoch()).count();
}

/// `now_ns` plus a duration; a sum past the end of time is `never_ns`, a negative duration counts
/// 0.
inline std::int64_t add_ns(std::int64_t now_ns, nanoseconds duration) noexcept {
    const std::int64_t more_ns = duration.count() < 0 ? 0 : duration.count();
    return more_ns > never_ns - now_ns ? never_ns : now_ns + more_ns;
}

}  // namespace kevring
