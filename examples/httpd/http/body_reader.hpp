// body_reader.hpp: the end of the body of a request, by its length or by its chunks (RFC 9112 6,
// 7).
//
// A server of files reads bodies only to find the next request. Nothing is kept of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace httpd {

class request_head;

/// Limit of the line before a chunk, with its extensions, and of the whole trailer, in bytes.
inline constexpr std::size_t chunk_line_bytes_max = 256;
inline constexpr std::size_t trailer_bytes_max = 4 * 1024;

enum class body_state : std::uint8_t {
    incomplete,
    complete,
    too_large,  ///< answered by 413; the connection ends
    malformed   ///< answered by 400; the connection ends
};

/// Reads over one body.
///
/// Use        while (reader.state() == body_state::incomplete) reader.read(bytes as they come)
/// Invariant  The outcome depends on the bytes only, not on how they were split.
class body_reader {
public:
    /// `limit_bytes` is for all that is received behind the head, chunk lines and trailer included:
    /// a body of tiny chunks costs what it weighs.
    body_reader(const request_head& head, std::uint64_t limit_bytes) noexcept;

    body_state state() const noexcept { return state_; }

    /// Takes what belongs to the body.
    ///
    /// Result     The bytes taken. Once complete, those that are left are the next request's.
    std::size_t read(std::string_view received) noexcept;

    /// Bytes of the body itself, without its chunk lines.
    std::uint64_t data_bytes() const noexcept { return data_bytes_; }

private:
    enum class phase : std::uint8_t {
        counted,  // Content-Length
        size_first,
        size_rest,
        size_blank,            // BWS before a semicolon
        extension_name_first,  // after the semicolon
        extension_name,
        extension_equals,       // BWS after the name
        extension_value_first,  // after the equals sign
        extension_token,
        extension_quoted,
        extension_escape,  // after a backslash in a quoted value
        extension_end,     // after a quoted value
        size_line_feed,
        data,
        data_return,
        data_line_feed,
        trailer_first,  // at the beginning of a line
        trailer_name,
        trailer_value,
        trailer_line_feed,
        last_line_feed
    };

    // Consumes one byte that is not data. False when it is not allowed there.
    bool step(char byte) noexcept;
    bool step_extension(char byte) noexcept;
    bool end_of_extension(char byte) noexcept;

    std::uint64_t left_bytes_;       // may still be received
    std::uint64_t chunk_bytes_ = 0;  // of the chunk, or of the counted body, that are to come
    std::uint64_t data_bytes_ = 0;
    std::uint16_t line_bytes_ = 0;  // of the chunk line, or of the trailer, so far
    phase phase_;
    body_state state_ = body_state::incomplete;
};

}  // namespace httpd
