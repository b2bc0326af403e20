// characters.hpp: the character classes of HTTP's grammar, one table look-up each.
//
// The names are those of RFC 9110 5.6 and RFC 3986 appendix A. No locale and no <cctype>: a byte is
// what the RFCs say it is, wherever the server runs.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace httpd {

/// A bit for each class; a byte can be in several.
enum character_class : std::uint8_t {
    token_character = 1,    ///< tchar: what method, field names and list members are made of
    path_character = 2,     ///< visible ASCII without '?' and '#': what we take in a path
    query_character = 4,    ///< path_character and '?'
    host_character = 8,     ///< reg-name without '%' and ','
    hex_character = 16,     ///< HEXDIG in either case
    digit_character = 32,   ///< DIGIT
    field_character = 64,   ///< in a field value: VCHAR, obs-text, SP, HT
    opaque_character = 128  ///< etagc: inside an entity tag
};

namespace detail {

constexpr std::array<std::uint8_t, 256> make_character_table() {
    std::array<std::uint8_t, 256> table{};
    const auto add = [&table](std::string_view bytes, unsigned classes) {
        for (const char byte : bytes) {
            auto& entry = table[static_cast<unsigned char>(byte)];
            entry = static_cast<std::uint8_t>(entry | classes);
        }
    };
    for (unsigned byte = 0; byte < 256; ++byte) {
        unsigned classes = 0;
        const bool visible = byte > 0x20 && byte < 0x7f;
        if (visible && byte != '#') classes |= query_character;
        if (visible && byte != '#' && byte != '?') classes |= path_character;
        if (visible || byte >= 0x80 || byte == ' ' || byte == '\t') classes |= field_character;
        if ((visible && byte != '"') || byte >= 0x80) classes |= opaque_character;
        if (byte >= '0' && byte <= '9') {
            classes |= digit_character | hex_character | token_character | host_character;
        }
        const unsigned lower = byte | 0x20;
        if (lower >= 'a' && lower <= 'z' && byte < 0x80) {
            classes |= token_character | host_character;
            if (lower <= 'f') classes |= hex_character;
        }
        table[byte] = static_cast<std::uint8_t>(classes);
    }
    add("!#$%&'*+-.^_`|~", token_character);
    add("-._~!$&'()*+;=", host_character);
    return table;
}

inline constexpr std::array<std::uint8_t, 256> character_table = make_character_table();

}  // namespace detail

constexpr bool is(char byte, character_class classes) noexcept {
    return (detail::character_table[static_cast<unsigned char>(byte)] & classes) != 0;
}

constexpr bool all_are(std::string_view bytes, character_class classes) noexcept {
    for (const char byte : bytes) {
        if (!is(byte, classes)) return false;
    }
    return true;
}

constexpr bool is_blank(char byte) noexcept { return byte == ' ' || byte == '\t'; }

/// `bytes` without the blanks (OWS) at both ends.
constexpr std::string_view trimmed(std::string_view bytes) noexcept {
    while (!bytes.empty() && is_blank(bytes.front())) bytes.remove_prefix(1);
    while (!bytes.empty() && is_blank(bytes.back())) bytes.remove_suffix(1);
    return bytes;
}

constexpr char lower_case(char byte) noexcept {
    return byte >= 'A' && byte <= 'Z' ? static_cast<char>(byte | 0x20) : byte;
}

/// Whether `bytes` is `lower`, which is written in lower case, but for the case of its letters.
constexpr bool same_ignoring_case(std::string_view bytes, std::string_view lower) noexcept {
    if (bytes.size() != lower.size()) return false;
    for (std::size_t index = 0; index < bytes.size(); ++index) {
        if (lower_case(bytes[index]) != lower[index]) return false;
    }
    return true;
}

/// The value of a HEXDIG; the caller has checked that it is one.
constexpr unsigned hex_value(char byte) noexcept {
    return byte <= '9' ? static_cast<unsigned>(byte - '0')
                       : static_cast<unsigned>((byte | 0x20) - 'a') + 10;
}

}  // namespace httpd
