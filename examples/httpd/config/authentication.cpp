#include "authentication.hpp"

#include "examples/httpd/http/characters.hpp"

#include <algorithm>
#include <map>

namespace httpd {
namespace {

std::string_view take_word(std::string_view& text) noexcept {
    text = trimmed(text);
    const std::size_t end = std::min(text.find_first_of(" \t"), text.size());
    const std::string_view word = text.substr(0, end);
    text = trimmed(text.substr(end));
    return word;
}

}  // namespace

authentication::authentication(const std::vector<option_text>& rules) {
    std::map<std::string, std::shared_ptr<password_file>> files;  // read once each
    for (const option_text& each : rules) {
        std::string_view rest = each.text;
        const std::string pattern(take_word(rest));
        const std::string path(take_word(rest));
        if (pattern.empty() || path.empty())
            each.fail("it must be 'PATTERN FILE' or 'PATTERN FILE REALM'");
        // A pattern of segments or types would not protect what other paths lead to.
        if (!pattern.starts_with('/')) each.fail("the pattern must begin with a slash");
        if (!all_are(rest, field_character) || rest.find_first_of("\"\\") != rest.npos)
            each.fail("the realm must not contain quotes, backslashes or control characters");
        authentication_rule rule{path_pattern(pattern), nullptr, {}};
        if (path != "off") {
            auto& users = files[path];
            if (!users) users = std::make_shared<password_file>(each, path);
            rule.users = users;
            rule.challenge = "WWW-Authenticate: Basic realm=\"" +
                             (rest.empty() ? std::string("restricted") : std::string(rest)) +
                             "\", charset=\"UTF-8\"\r\n";
        }
        rules_.push_back(std::move(rule));
    }
}

// "/private/*" is for the directory itself, too, with or without a slash at its end.
const authentication_rule* authentication::find(std::string_view name) const {
    if (name == ".") name = {};
    const std::string as_directory = std::string(name) + '/';
    for (const authentication_rule& each : rules_) {
        const bool matches = each.pattern.matches(name, {}) ||
                             (!name.empty() && each.pattern.matches(as_directory, {}));
        if (matches) return each.users ? &each : nullptr;
    }
    return nullptr;
}

}  // namespace httpd
