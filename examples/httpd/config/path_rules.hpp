// path_rules.hpp: rules of the configuration that depend on the path of a request or on the type of
// its file.
#pragma once

#include "option_text.hpp"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace httpd {

/// A pattern of paths or types, in which '*' stands for any bytes:
///
/// "/assets/*"   a path, as it is after decoding
/// "*.js"        the last segment of a path
/// "text/html"   a media type, without parameters; "image/*"
class path_pattern {
public:
    explicit path_pattern(std::string text);

    /// `name` is that of the file below the root, as target_name has it; `media_type` may be empty.
    bool matches(std::string_view name, std::string_view media_type) const noexcept;

private:
    enum class kind : unsigned char { path, segment, type };
    kind kind_;
    std::string text_;
};

/// Field lines by path. Of several rules for one field the first that matches counts.
class header_rules {
public:
    /// "PATTERN Name: value".
    ///
    /// Errors     These throw option_error.
    void add_field(const option_text& rule);
    /// "PATTERN VALUE", of Cache-Control.
    void add_cache_control(const option_text& rule);
    /// "PATTERN ORIGIN": Access-Control-Allow-Origin, and what a preflight request asks for.
    void add_cors(const option_text& rule);
    /// A field for all paths for which no rule has another; after the others.
    void add_default(std::string line);

    bool empty() const noexcept { return rules_.empty(); }
    bool has_field(std::string_view name) const noexcept;
    /// The lines for a file, or for a response without one: then `media_type` is empty. Those of a
    /// preflight request are added for OPTIONS.
    std::string lines_for(std::string_view name, std::string_view media_type,
                          bool is_options = false) const;

private:
    struct rule {
        path_pattern pattern;
        std::string field;  // in lower case
        std::string lines;  // with CRLF
        std::string preflight_lines = {};
    };
    std::vector<rule> rules_;
};

/// A redirection of paths: "/old /new", "/blog/* https://blog.example.org/* 301".
struct redirect_rule {
    std::string prefix;
    bool is_prefix = false;  // the bytes after it replace the target's '*'
    std::string target;
    unsigned status = 302;
};

/// Errors     Throws option_error.
redirect_rule parse_redirect(const option_text& rule);

/// The Location for the encoded path of a request; nothing if no rule matches.
struct redirection {
    std::string location;
    unsigned status;
};
std::optional<redirection> find_redirect(const std::vector<redirect_rule>& rules,
                                         std::string_view path);

}  // namespace httpd
