// field_names.hpp: from the name in a field line to the field, without a search.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string_view>

#include "characters.hpp"
#include "request_head.hpp"

namespace httpd {

namespace detail {

/// Whether `token` is `lower`, which holds lower-case letters and hyphens only. A byte of a token
/// that is not that letter in either case, or that hyphen, differs from it with bit 5 set, too.
inline bool is_name(std::string_view token, std::string_view lower) noexcept {
    constexpr std::uint64_t case_bits = 0x2020202020202020;
    const auto load = [](const char* from) {
        std::uint64_t word;
        std::memcpy(&word, from, sizeof word);
        return word;
    };
    const std::size_t size = lower.size();
    if (token.size() != size) return false;
    if (size >= 8) {
        // The final word overlaps the one before it.
        std::uint64_t difference = 0;
        for (std::size_t index = 0; index + 8 < size; index += 8) {
            difference |= (load(token.data() + index) | case_bits) ^ load(lower.data() + index);
        }
        return (difference |
                ((load(token.data() + size - 8) | case_bits) ^ load(lower.data() + size - 8))) == 0;
    }
    for (std::size_t index = 0; index < size; ++index) {
        if ((token[index] | 0x20) != lower[index]) return false;
    }
    return true;
}

}  // namespace detail

/// The field that `name`, a token, names; nothing for one that the server does not read.
inline std::optional<known_field> find_known_field(std::string_view name) noexcept {
    using enum known_field;
    const auto when = [name](std::string_view lower,
                             known_field field) -> std::optional<known_field> {
        if (!detail::is_name(name, lower)) return std::nullopt;
        return field;
    };
    // No two of one length begin with the same letter, but for if-match and if-range.
    const char letter = name.empty() ? '\0' : static_cast<char>(name.front() | 0x20);
    switch (name.size()) {
        case 4: return when("host", host);
        case 5: return when("range", range);
        case 6:
            return letter == 'e'   ? when("expect", expect)
                   : letter == 'o' ? when("origin", origin)
                                   : when("accept", accept);
        case 7: return when("referer", referer);
        case 8: {
            const auto match = when("if-match", if_match);
            return match ? match : when("if-range", if_range);
        }
        case 10:
            return letter == 'u' ? when("user-agent", user_agent) : when("connection", connection);
        case 13:
            return letter == 'i' ? when("if-none-match", if_none_match)
                                 : when("authorization", authorization);
        case 14: return when("content-length", content_length);
        case 15:
            return letter == 'a' ? when("accept-encoding", accept_encoding)
                                 : when("x-forwarded-for", forwarded_for);
        case 17:
            return letter == 't' ? when("transfer-encoding", transfer_encoding)
                                 : when("if-modified-since", if_modified_since);
        case 19: return when("if-unmodified-since", if_unmodified_since);
        default: return std::nullopt;
    }
}

}  // namespace httpd
