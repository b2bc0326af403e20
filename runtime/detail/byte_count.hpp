// byte_count.hpp: limits of the bytes and parts of one request.
#pragma once

#include <kevring/runtime/detail/language.hpp>

#include <cstddef>

namespace kevring::detail {

// Linux moves at most this many bytes in one call (read(2), NOTES), and returns a short count. A
// larger number would not fit the 32 bits of a request and must not wrap round to a small one.
inline constexpr std::size_t byte_count_max = 0x7ffff000;

constexpr unsigned byte_count(std::size_t wanted) noexcept {
    return static_cast<unsigned>(wanted < byte_count_max ? wanted : byte_count_max);
}

// The number of parts of one request, which has 32 bits. Linux refuses more than IOV_MAX parts; a
// larger number must not wrap round to one that it accepts.
constexpr unsigned part_count(std::size_t wanted) noexcept {
    return wanted < 0x7fffffff ? static_cast<unsigned>(wanted) : 0x7fffffff;
}

}  // namespace kevring::detail
