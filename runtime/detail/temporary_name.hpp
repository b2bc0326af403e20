// temporary_name.hpp: names of temporary files that no other process guesses.
#pragma once

#include <kevring/runtime/detail/language.hpp>

#include <cstdint>
#include <string>
#include <string_view>

#include <sys/random.h>

namespace kevring::detail {

inline constexpr int temporary_name_attempts = 100;

/// `prefix` and 16 hexadecimal digits from getrandom(2).
inline std::string temporary_name(std::string_view prefix) {
    std::uint64_t number = 0;
    while (::getrandom(&number, sizeof number, 0) != static_cast<ssize_t>(sizeof number)) {}
    std::string name(prefix);
    for (int digit = 0; digit < 16; ++digit, number >>= 4) name += "0123456789abcdef"[number & 15];
    return name;
}

}  // namespace kevring::detail
