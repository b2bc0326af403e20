// request_parser.hpp: the head of an HTTP/1.0 or HTTP/1.1 request, out of bytes as they arrive.
//
// Stands alone: no I/O, no allocation, no exception, no other part of the server. The rules, and
// where they are stricter than RFC 9112 asks, are in docs/design/0010-http-parser.md.
//
// Invariants  (1) The outcome depends on the bytes only, never on how they were split: it is that
//                 of the shortest prefix for which there is one. A line is therefore judged when
//                 its end has arrived, and a byte that no line may hold at once.
//             (2) A byte is scanned once, however small the pieces are.
//             (3) Nothing behind the closing empty line is looked at.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "request_head.hpp"

namespace httpd {

/// The most that a head may hold, however it is configured.
inline constexpr std::size_t request_line_bytes_max = 8 * 1024;  ///< without its CRLF
inline constexpr std::size_t field_bytes_max = 32 * 1024;        ///< all field lines with CRLF
inline constexpr std::size_t field_count_max = 200;
/// The largest head: an empty line before it, the request line, the fields, the empty line.
inline constexpr std::size_t head_bytes_max = 2 + request_line_bytes_max + 2 + field_bytes_max + 2;

/// Limits of one server. A limit above its maximum counts as the maximum.
struct head_limits {
    std::size_t request_line_bytes = request_line_bytes_max;
    std::size_t field_bytes = field_bytes_max;
    std::size_t field_count = 128;

    /// The largest head that they let through: a buffer of this size is always enough.
    std::size_t head_bytes() const noexcept {
        return 2 + std::min(request_line_bytes, request_line_bytes_max) + 2 +
               std::min(field_bytes, field_bytes_max) + 2;
    }
};

/// Why a head is refused. Every refusal ends the connection: where the head ends is no longer sure.
enum class parse_error : std::uint8_t {
    none,
    control_character,
    bare_line_feed,
    bare_carriage_return,
    bad_request_line,
    bad_method,
    bad_target,
    bad_version,
    version_not_supported,
    request_line_too_long,
    method_too_long,
    folded_line,
    bad_field_line,
    fields_too_large,
    too_many_fields,
    host_missing,
    host_repeated,
    host_invalid,
    host_empty,
    length_invalid,
    length_repeated,
    length_and_coding,
    coding_in_version_1_0,
    coding_invalid,
    coding_not_chunked,
    coding_unknown
};

/// The status to answer with: 400, 414, 431, 501 or 505.
std::uint16_t status_of(parse_error error) noexcept;
/// A phrase for the log.
std::string_view text_of(parse_error error) noexcept;

enum class parse_state : std::uint8_t { incomplete, complete, refused };

/// Reads one head; reset() makes it ready for the next one.
///
/// Use        parser.parse(receive buffer). When complete, the first head().size() bytes are its
///            head; the body or the next request follows. When incomplete, keep all bytes, and call
///            again with these and more. An error response ends the connection.
class request_parser {
public:
    explicit request_parser(head_limits limits = {}) noexcept
        : bound_(static_cast<std::uint16_t>(
              std::min(limits.request_line_bytes, request_line_bytes_max) + 1)),
          line_bytes_limit_(static_cast<std::uint16_t>(bound_ - 1)),
          field_bytes_limit_(
              static_cast<std::uint16_t>(std::min(limits.field_bytes, field_bytes_max))),
          field_count_limit_(
              static_cast<std::uint8_t>(std::min(limits.field_count, field_count_max))) {}

    /// Looks at the bytes that are there by now.
    ///
    /// `received` begins with the first byte of this head and holds all that the previous call was
    /// given, and maybe more; it may stand elsewhere in memory. After `complete` or `refused` the
    /// answer stays the same until reset().
    parse_state parse(std::string_view received) noexcept;

    parse_state state() const noexcept { return state_; }
    /// Valid once complete. After a refusal only request_line() means something.
    const request_head& head() const noexcept { return head_; }
    request_head& head() noexcept { return head_; }
    parse_error error() const noexcept { return error_; }

    /// Whether a byte of a request has arrived: between requests there may be an empty line.
    bool started() const noexcept { return scanned_ > line_first_ || phase_ == phase::fields; }

    void reset() noexcept {
        *this = request_parser({line_bytes_limit_, field_bytes_limit_, field_count_limit_});
    }

private:
    enum class phase : std::uint8_t { before, request_line, fields };

    parse_state fail(parse_error error, std::size_t end) noexcept;
    parse_error line_too_long_error(std::size_t last) const noexcept;
    parse_error read_line(std::size_t first, std::size_t last) noexcept;
    parse_error read_request_line(std::size_t first, std::size_t last) noexcept;
    parse_error read_target(std::size_t first, std::size_t last) noexcept;
    parse_error read_absolute_target(std::size_t first, std::size_t last) noexcept;
    parse_error read_path(std::size_t first, std::size_t last) noexcept;
    parse_error read_field_line(std::size_t first, std::size_t last) noexcept;
    parse_error read_framing_field(known_field field, std::string_view value) noexcept;
    parse_error read_content_length(std::string_view value) noexcept;
    parse_error read_transfer_encoding(std::string_view value) noexcept;
    void read_connection(std::string_view value) noexcept;
    parse_error finish() noexcept;

    request_head head_;
    std::uint16_t line_first_ = 0;  // where the current line begins
    std::uint16_t scanned_ = 0;     // bytes before this one need not be looked at again
    std::uint16_t bound_;           // a line that reaches it is too long
    std::uint16_t line_bytes_limit_;
    std::uint16_t field_bytes_limit_;
    std::uint8_t field_count_limit_;
    std::uint8_t field_count_ = 0;
    parse_state state_ = parse_state::incomplete;
    phase phase_ = phase::before;
    parse_error error_ = parse_error::none;
    // Of Transfer-Encoding, whose members may come in several lines.
    bool other_coding_ = false;
};

static_assert(head_bytes_max <= UINT16_MAX, "offsets have 16 bits");
static_assert(field_count_max < UINT8_MAX, "field_count_ has 8 bits");

}  // namespace httpd
