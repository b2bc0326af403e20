// target.hpp: from the path of a request to the name of a file below the root.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace httpd {

/// Why a path names nothing. All are answered by 400 but too_long, by 414.
enum class target_error : std::uint8_t {
    none,
    bad_encoding,       ///< '%' without two HEXDIG behind it
    control_character,  ///< encoded; NUL would end the name early, others would disturb a log
    encoded_slash,      ///< %2F: another reader may take it for a separator, or may not
    above_root,         ///< more ".." than segments before them
    too_long            ///< for the caller's buffer
};

/// The status to answer with.
std::uint16_t status_of(target_error error) noexcept;

/// The name of a file, relative to the root.
struct target_name {
    target_error error = target_error::none;
    /// Whether the path ended in a slash, or in a dot segment, so that it can name a directory
    /// only.
    bool directory = false;
    /// Whether a segment begins with a dot, but for a first one that is ".well-known" (RFC 8615).
    bool hidden = false;
    /// Never empty, "." for the root; no empty segment, no dot segment, no slash at either end; a
    /// NUL follows it, none is in it.
    std::string_view name;

    explicit operator bool() const noexcept { return error == target_error::none; }
};

/// Decodes a path, once, and removes its dot segments and doubled slashes.
///
/// `path` is the result of request_head::path(): it begins with '/' and has no byte that the
/// request line may not have. Dot segments count whether or not they were encoded (RFC 3986 6.2.2).
/// The result is safe for openat2(2) with RESOLVE_BENEATH, which then has links left to look at.
///
/// Lifetime   The name points into `buffer`; path.size() + 1 bytes are always enough.
target_name parse_target(std::string_view path, std::span<char> buffer) noexcept;

/// Appends a segment with all bytes percent-encoded but the unreserved ones (RFC 3986 2.3): the
/// result is safe in any attribute, and in Location.
void append_encoded(std::string& text, std::string_view segment);

/// The absolute path of a name that parse_target() returned; a directory's ends in a slash. It
/// never begins with "//" or "/\\", which a client takes for the name of another host.
std::string encoded_path(std::string_view name, bool directory);

}  // namespace httpd
