// event_views.hpp: ranges of events by what they say, for range-v3.
//
//     for (const event& one : batch | by_type(event_type::timer)) ...
//     for (const event& one : batch | ready_bits(POLLIN)) ...
//     for (const event& one : batch | failed) ...
#pragma once

#include <kevring/kevent/event.hpp>

#include <range/v3/view/filter.hpp>

#include <cstdint>

namespace kevring {

/// The events of one type.
inline auto by_type(event_type type) {
    return ranges::views::filter([type](const event& one) { return one.type() == type; });
}

/// The events of descriptors and inodes that have one of `bits`, and have not failed.
inline auto ready_bits(std::uint32_t bits) {
    return ranges::views::filter(
        [bits](const event& one) { return !one.failed() && (one.ready_bits() & bits) != 0; });
}

/// The events that say that a registration has come to its end by a failure.
inline constexpr auto failed = ranges::views::filter([](const event& one) { return one.failed(); });

/// The others.
inline constexpr auto succeeded =
    ranges::views::filter([](const event& one) { return !one.failed(); });

}  // namespace kevring
