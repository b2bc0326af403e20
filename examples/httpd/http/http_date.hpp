// http_date.hpp: the dates of HTTP, in seconds since 1970 (RFC 9110 5.6.7).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string_view>

namespace httpd {

/// The bytes of a date as we write it: "Sun, 06 Nov 1994 08:49:37 GMT".
inline constexpr std::size_t http_date_bytes = 29;

/// Writes the date in its fixed form. A year that has not four digits is written as the nearest
/// that has.
void write_http_date(std::int64_t unix_seconds, std::span<char, http_date_bytes> out) noexcept;

/// Reads a date in any of the three forms: IMF-fixdate, RFC 850 and asctime. They are taken to the
/// letter: names in their case, two digits where two are due, a day of the month that exists. The
/// name of the weekday is not checked against the date.
///
/// `now_unix_seconds` settles the century of an RFC 850 date: none is more than 50 years ahead.
std::optional<std::int64_t> parse_http_date(std::string_view text,
                                            std::int64_t now_unix_seconds) noexcept;

/// The text of a date, written again only when the second has changed.
class http_date_cache {
public:
    /// Lifetime   Until the next call.
    std::string_view at(std::int64_t unix_seconds) noexcept {
        if (unix_seconds != unix_seconds_) [[unlikely]] {
            write_http_date(unix_seconds, text_);
            unix_seconds_ = unix_seconds;
        }
        return {text_.data(), text_.size()};
    }

private:
    std::int64_t unix_seconds_ = std::numeric_limits<std::int64_t>::min();
    std::array<char, http_date_bytes> text_{};
};

}  // namespace httpd
