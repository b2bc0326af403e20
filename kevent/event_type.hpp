// event_type.hpp: the types of events, by their numbers of 2006.
#pragma once

#include <kevring/runtime/detail/language.hpp>

#include <cstddef>
#include <cstdint>

namespace kevring {

/// The type of the origin of a registration; the value of ukevent.type. One row of the source table
/// each.
enum class event_type : std::uint32_t {
    socket = 0,
    inode = 1,
    timer = 2,
    poll = 3,
    naio = 4,
    aio = 5,
    pipe = 6,
    signal = 7,
    posix_timer = 8,
    unotify = 9,
    process = 10,
};

inline constexpr std::size_t event_type_count = 11;

}  // namespace kevring
