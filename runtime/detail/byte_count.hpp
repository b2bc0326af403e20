// byte_count.hpp: how many bytes one request can be asked to move.
#pragma once

#include <cstddef>

namespace kevring::detail {

// Linux moves at most so many bytes in one call (read(2), NOTES), and says so by a short count. A
// larger number would not fit the 32 bits of a request and must not wrap round to a small one.
inline constexpr std::size_t byte_count_max = 0x7ffff000;

constexpr unsigned byte_count(std::size_t wanted) noexcept {
    return static_cast<unsigned>(wanted < byte_count_max ? wanted : byte_count_max);
}

}  // namespace kevring::detail
