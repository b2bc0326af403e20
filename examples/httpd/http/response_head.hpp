// response_head.hpp: the head of a response, written into the caller's memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

#include "status.hpp"

namespace httpd {

/// Whether this can be sent as a field line: a token, and a value without control characters and
/// without blanks at its ends. For what comes from a configuration.
bool is_field(std::string_view name, std::string_view value) noexcept;

/// Writes a head line by line.
///
/// Use        response_head(buffer, 200).lines(date_line).lines(lines_of_the_file).finish()
/// Errors     A value that does not fit, or that would end its line, marks the head as failed:
///            finish() then returns nothing.
/// Lifetime   The result of finish() points into the buffer.
class response_head {
public:
    /// Begins with the status line.
    response_head(std::span<char> buffer, unsigned status) noexcept
        : begin_(buffer.data()), position_(begin_), end_(begin_ + buffer.size()) {
        lines(status_line(status));
    }

    /// Whole lines that were made before, each with its CRLF. They are not looked at.
    response_head& lines(std::string_view made) noexcept {
        if (made.size() > static_cast<std::size_t>(end_ - position_)) [[unlikely]]
            return set_failed();
        // first: an empty view may have no address, which memcpy() may not see.
        if (!made.empty()) std::memcpy(position_, made.data(), made.size());
        position_ += made.size();
        return *this;
    }

    /// One field line.
    response_head& field(std::string_view name, std::string_view value) noexcept;
    response_head& field(std::string_view name, std::uint64_t value) noexcept;

    /// "Content-Range: bytes 0-99/1000"
    response_head& content_range(std::uint64_t first, std::uint64_t count,
                                 std::uint64_t size) noexcept;
    /// "Content-Range: bytes */1000", of a 416.
    response_head& content_range(std::uint64_t size) noexcept;

    /// The Connection line where the version does not imply it (RFC 9112 9.3).
    response_head& connection(bool keep_alive, unsigned minor_version) noexcept {
        if (!keep_alive) return lines("Connection: close\r\n");
        return minor_version == 0 ? lines("Connection: keep-alive\r\n") : *this;
    }

    bool ok() const noexcept { return end_ != nullptr; }

    /// Writes the empty line. The head, or nothing when it was spoilt.
    std::string_view finish() noexcept {
        lines("\r\n");
        if (!ok()) return {};
        return {begin_, static_cast<std::size_t>(position_ - begin_)};
    }

private:
    response_head& set_failed() noexcept {
        position_ = end_ = nullptr;  // no room: all that follows fails as well
        return *this;
    }
    response_head& number(std::uint64_t value) noexcept;

    char* begin_;
    char* position_;
    char* end_;
};

/// A response that the server makes up itself: of an error, or a redirection.
struct short_response {
    unsigned status = 500;
    /// As http_date_cache gives it; without one there is no Date line.
    std::string_view date = {};
    /// Whole lines with CRLF: fields of the configuration, Allow, Location, Content-Range.
    std::string_view lines = {};
    bool keep_alive = false;
    unsigned minor_version = 1;
    /// A response to HEAD: the head is that of GET, and no body follows.
    bool head_only = false;
    /// Instead of our own page, which says the status and its reason.
    std::string_view body = {};
    std::string_view media_type = "text/html; charset=utf-8";
};

/// The bytes that write_short_response() needs at most for what is not `lines` and `body`.
inline constexpr std::size_t short_response_bytes = 1024;

/// Writes head and body.
///
/// Result     The bytes to send, in `out`; nothing when they do not fit.
std::string_view write_short_response(std::span<char> out, const short_response& what) noexcept;

}  // namespace httpd
