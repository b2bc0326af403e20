// clock.hpp: time on std::chrono::steady_clock; the names of raw numbers end with `_ns`.
#pragma once

#include <kevring/runtime/detail/language.hpp>

#include <chrono>
#include <cstdint>
#include <limits>
#include <ratio>
#include <type_traits>

namespace kevring {

using steady_time = std::chrono::steady_clock::time_point;
using nanoseconds = std::chrono::nanoseconds;

/// The latest representable deadline, which never expires.
inline constexpr std::int64_t never_ns = std::numeric_limits<std::int64_t>::max();

/// Converts a time to nanoseconds since the clock's epoch.
inline std::int64_t to_ns(steady_time time) noexcept {
    return std::chrono::duration_cast<nanoseconds>(time.time_since_epoch()).count();
}

/// A duration of any unit, converted to nanoseconds. A value outside their range of 292 years
/// becomes the nearest limit, as hours::max() does; NaN becomes 0. A plain conversion to nanoseconds
/// would overflow and turn "never" into "now".
class clamped_duration {
public:
    template <class Number, class Period>
    constexpr clamped_duration(std::chrono::duration<Number, Period> duration) noexcept
        : nanoseconds_(clamp(duration)) {}
    constexpr operator nanoseconds() const noexcept { return nanoseconds_; }

private:
    template <class Number, class Period>
    static constexpr nanoseconds clamp(std::chrono::duration<Number, Period> duration) noexcept {
        if constexpr (std::is_same_v<decltype(duration), nanoseconds>) return duration;
        constexpr double limit_ns = 9.2e18;  // below the limits, and exact enough in any unit
        const double wanted_ns =
            std::chrono::duration<double, std::nano>(
                std::chrono::duration<double, Period>(static_cast<double>(duration.count())))
                .count();
        if (wanted_ns != wanted_ns) return nanoseconds::zero();
        if (wanted_ns >= limit_ns) return nanoseconds::max();
        if (wanted_ns <= -limit_ns) return nanoseconds::min();
        using factor = std::ratio_divide<Period, std::nano>;
        if constexpr (std::is_integral_v<Number> && factor::num != 1 && factor::den != 1) {
            // A period such as 1/60 s: duration_cast() would multiply first, and overflow.
            using wide = std::common_type_t<Number, std::intmax_t>;
            const wide count = duration.count();
            const wide num = factor::num;
            const wide den = factor::den;
            return nanoseconds(
                static_cast<std::int64_t>(count / den * num + count % den * num / den));
        } else {
            return std::chrono::duration_cast<nanoseconds>(duration);
        }
    }

    nanoseconds nanoseconds_;
};

/// A time of the steady clock in any unit, converted to nanoseconds. A value outside their range
/// becomes the nearest limit, as with clamped_duration: time_point<steady_clock, hours>::max() is
/// never, and not a time that has passed.
class clamped_time {
public:
    template <class Duration>
    constexpr clamped_time(
        std::chrono::time_point<std::chrono::steady_clock, Duration> time) noexcept
        : time_(nanoseconds(clamped_duration(time.time_since_epoch()))) {}
    constexpr operator steady_time() const noexcept { return time_; }

private:
    steady_time time_;
};

/// Adds a duration to `now_ns`. A sum that overflows is `never_ns`; a negative duration counts as 0.
inline std::int64_t add_ns(std::int64_t now_ns, nanoseconds duration) noexcept {
    const std::int64_t more_ns = duration.count() < 0 ? 0 : duration.count();
    return more_ns > never_ns - now_ns ? never_ns : now_ns + more_ns;
}

}  // namespace kevring
