// ring_positions.hpp: the arithmetic of a ring whose slots are handed back by position.
//
// The slots that a ring has ever filled are numbered from 0, and the number never wraps: position P
// is slot P % N of lap P / N. The consumer position U and the producer position K say everything:
// U <= K <= U + N, [U, K) is filled, [K, U + N) is free. A full ring differs from an empty one, and
// a repeated or late commit from one that is a lap ahead, without a further bit.
//
// Callers outside name a position by its slot and the low 32 bits of its lap. Those are
// unambiguous as long as they are less than 2^31 laps old.
//
// Pure functions. Spec: 6.1, 6.4; K-078 to K-084, K-087.
#pragma once

#include <kevring/runtime/detail/language.hpp>

#include <cerrno>
#include <cstdint>

namespace kevring::detail {

/// The two positions of a ring of `slot_count` slots.
struct ring_positions {
    std::uint64_t consumer = 0;    ///< U: the oldest position that is not committed
    std::uint64_t producer = 0;    ///< K: the position that is filled next
    std::uint32_t slot_count = 1;  ///< N

    constexpr std::uint64_t filled() const noexcept { return producer - consumer; }
    constexpr std::uint64_t space() const noexcept { return slot_count - filled(); }

    constexpr bool valid() const noexcept {
        return slot_count != 0 && consumer <= producer && filled() <= slot_count;
    }

    friend constexpr bool operator==(const ring_positions&, const ring_positions&) = default;
};

constexpr std::uint32_t slot_of(std::uint64_t position, std::uint32_t slot_count) noexcept {
    return static_cast<std::uint32_t>(position % slot_count);
}

constexpr std::uint64_t lap_of(std::uint64_t position, std::uint32_t slot_count) noexcept {
    return position / slot_count;
}

/// How many laps the lap that ends in the 32 bits `over` is ahead of `lap`: of all such laps, the
/// nearest. Negative when it is behind.
constexpr std::int32_t laps_ahead(std::uint32_t over, std::uint64_t lap) noexcept {
    return static_cast<std::int32_t>(over - static_cast<std::uint32_t>(lap));
}

/// Result of a commit: the number of slots that it frees, or the reason of a refusal.
struct commit_decision {
    int result = 0;              ///< slots freed, or a negative error number; nothing else moves U
    std::uint64_t consumer = 0;  ///< U from now on

    friend constexpr bool operator==(const commit_decision&, const commit_decision&) = default;
};

/// Decides a commit of everything before slot `new_uidx` of the lap that ends in `over`.
///
/// Result     The slots that it frees; 0 where all of them are free already.
/// Errors     -EINVAL: `new_uidx` is no slot, or the position is not filled yet. -EOVERFLOW: `over`
///            is more than one lap away from the consumer's.
constexpr commit_decision decide_commit(const ring_positions& positions, std::uint32_t new_uidx,
                                        std::uint32_t over) noexcept {
    if (new_uidx >= positions.slot_count) return {-EINVAL, positions.consumer};
    const std::uint64_t lap = lap_of(positions.consumer, positions.slot_count);
    const std::int32_t ahead = laps_ahead(over, lap);
    if (ahead < -1 || ahead > 1) return {-EOVERFLOW, positions.consumer};
    // Counted from U, because the lap before the first one has no absolute position.
    const std::int64_t freed =
        std::int64_t{ahead} * positions.slot_count + new_uidx -
        static_cast<std::int64_t>(slot_of(positions.consumer, positions.slot_count));
    if (freed <= 0) return {0, positions.consumer};
    if (static_cast<std::uint64_t>(freed) > positions.filled())
        return {-EINVAL, positions.consumer};
    return {static_cast<int>(freed), positions.consumer + static_cast<std::uint64_t>(freed)};
}

}  // namespace kevring::detail
