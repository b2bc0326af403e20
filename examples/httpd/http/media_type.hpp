// media_type.hpp: the Content-Type of a file by its name's extension.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <unordered_map>

namespace httpd {

/// The type of a file without a known extension.
inline constexpr std::string_view unknown_media_type = "application/octet-stream";

/// The part behind the last dot of the name's last segment; empty where there is none, and where
/// the dot is the first byte, as in ".profile".
std::string_view extension_of(std::string_view name) noexcept;

/// The type of a file in the built-in table. Text is declared as UTF-8.
std::string_view built_in_media_type(std::string_view name) noexcept;

/// The built-in table, and over it what a mime.types file says.
///
/// Thread     Reading from any thread once loaded.
class media_types {
public:
    /// Takes in the text of a mime.types file: a type and its extensions on each line, '#' before a
    /// comment. Other lines are skipped; of two that name one extension the
    /// later counts. Text is declared as UTF-8.
    ///
    /// Result     The extensions taken.
    std::size_t load(std::string_view mime_types);

    /// Sets the type of one extension, as it is.
    void set(std::string_view extension, std::string type);

    /// Lifetime   That of this object; of the program for a built-in one.
    std::string_view find(std::string_view name) const;

private:
    struct hash : std::hash<std::string_view> {
        using is_transparent = void;
    };
    std::unordered_map<std::string, std::string, hash, std::equal_to<>> by_extension_;
};

}  // namespace httpd
