// access_log_format.hpp: one line for each request, as other programs read it.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string_view>

namespace httpd {

enum class access_log_format : std::uint8_t {
    common,    ///< of the NCSA's server
    combined,  ///< common, referer and user agent
    json       ///< an object on each line
};

/// "common", "combined" or "json".
std::optional<access_log_format> access_log_format_named(std::string_view name) noexcept;

/// The longest line, with its end: a file or pipe that is appended to gets it whole.
inline constexpr std::size_t access_line_bytes_max = 4096;

/// The record of a completed request. Texts are as the client sent them.
struct access_record {
    std::string_view client = {};  ///< its address
    std::string_view user = {};    ///< whose password was verified; empty: none
    std::int64_t unix_second = 0;
    std::string_view request_line = {};
    unsigned status = 0;
    std::uint64_t body_bytes = 0;  ///< sent, without the head
    std::chrono::nanoseconds duration{};
    std::string_view referer = {};
    std::string_view user_agent = {};
};

/// Writes lines. Nothing that a client sends can end one, or end a quoted text in it: quotes,
/// backslashes and what is not visible ASCII are written as "\x22", or in JSON as "\u0022". A text
/// that is too long is cut; the line stays whole.
class access_log_formatter {
public:
    explicit access_log_formatter(access_log_format format) noexcept : format_(format) {}

    /// Lifetime   The line is in `out`.
    std::string_view line(const access_record& record,
                          std::span<char, access_line_bytes_max> out) noexcept;

private:
    void update_time(std::int64_t unix_second) noexcept;

    access_log_format format_;
    std::int64_t time_second_ = std::numeric_limits<std::int64_t>::min();
    std::array<char, 26> time_text_{};  // written once for each second
    std::size_t time_bytes_ = 0;
};

}  // namespace httpd
