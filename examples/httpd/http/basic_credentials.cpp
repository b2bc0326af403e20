#include "basic_credentials.hpp"

#include "characters.hpp"

#include <algorithm>
#include <cstdint>

namespace httpd {
namespace {

// -1: no letter of base64.
int value_of(char letter) noexcept {
    if (letter >= 'A' && letter <= 'Z') return letter - 'A';
    if (letter >= 'a' && letter <= 'z') return letter - 'a' + 26;
    if (letter >= '0' && letter <= '9') return letter - '0' + 52;
    if (letter == '+') return 62;
    return letter == '/' ? 63 : -1;
}

std::optional<std::string> decode_base64(std::string_view text) {
    const std::size_t padded = text.size();
    while (text.ends_with('=') && padded - text.size() < 2) text.remove_suffix(1);
    if (text.size() % 4 == 1 || (padded != text.size() && padded % 4 != 0)) return std::nullopt;
    std::string bytes;
    std::uint32_t bits = 0;
    unsigned bit_count = 0;
    for (const char letter : text) {
        const int value = value_of(letter);
        if (value < 0) return std::nullopt;
        bits = (bits << 6 | static_cast<std::uint32_t>(value)) & 0xffffff;
        bit_count += 6;
        if (bit_count < 8) continue;
        bit_count -= 8;
        bytes += static_cast<char>(bits >> bit_count & 0xff);
    }
    return bytes;
}

}  // namespace

std::optional<basic_credentials> parse_basic_credentials(std::string_view value) {
    constexpr std::string_view scheme = "basic ";
    if (value.size() < scheme.size() || !same_ignoring_case(value.substr(0, scheme.size()), scheme))
        return std::nullopt;
    const auto text = decode_base64(trimmed(value.substr(scheme.size())));
    if (!text) return std::nullopt;
    const auto is_control = [](char one) {
        return static_cast<unsigned char>(one) < 0x20 || one == 0x7f;
    };
    const std::size_t colon = text->find(':');
    if (colon == std::string::npos || std::ranges::any_of(*text, is_control)) return std::nullopt;
    return basic_credentials{text->substr(0, colon), text->substr(colon + 1)};
}

}  // namespace httpd
