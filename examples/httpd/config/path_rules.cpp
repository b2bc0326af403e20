#include "path_rules.hpp"

#include "custom_responses.hpp"
#include "examples/httpd/http/characters.hpp"
#include "examples/httpd/http/wildcards.hpp"

#include <algorithm>
#include <array>
#include <utility>

namespace httpd {
namespace {

std::string in_lower_case(std::string_view text) {
    std::string lower(text);
    std::ranges::transform(lower, lower.begin(), lower_case);
    return lower;
}

// The first word, and the rest without the blanks between them.
std::pair<std::string_view, std::string_view> split_word(std::string_view text) noexcept {
    text = trimmed(text);
    const std::size_t end = std::min(text.find_first_of(" \t"), text.size());
    return {text.substr(0, end), trimmed(text.substr(end))};
}

std::pair<std::string, std::string> pattern_and_value(const option_text& rule, const char* form) {
    const auto [pattern, value] = split_word(rule.text);
    if (pattern.empty() || value.empty()) rule.fail(std::string("it must be '") + form + "'");
    if (!all_are(rule.text, field_character)) rule.fail("it has a control character");
    return {std::string(pattern), std::string(value)};
}

}  // namespace

path_pattern::path_pattern(std::string text)
    : kind_(text.starts_with('/')                 ? kind::path
            : text.find('/') != std::string::npos ? kind::type
                                                  : kind::segment),
      text_(std::move(text)) {
    if (kind_ == kind::type) text_ = in_lower_case(text_);
}

bool path_pattern::matches(std::string_view name, std::string_view media_type) const noexcept {
    if (name == ".") name = {};
    switch (kind_) {
        case kind::path: return matches_wildcards(std::string_view(text_).substr(1), name);
        case kind::segment: return matches_wildcards(text_, name.substr(name.rfind('/') + 1));
        case kind::type: break;
    }
    return matches_wildcards(text_, trimmed(media_type.substr(0, media_type.find(';'))));
}

void header_rules::add_field(const option_text& rule) {
    const auto [pattern, value] = pattern_and_value(rule, "PATTERN Name: value");
    std::string line = checked_field_line(rule, value);
    std::string field = in_lower_case(line.substr(0, line.find(':')));
    rules_.push_back({path_pattern(pattern), std::move(field), std::move(line)});
}

void header_rules::add_cache_control(const option_text& rule) {
    const auto [pattern, value] = pattern_and_value(rule, "PATTERN VALUE");
    rules_.push_back({path_pattern(pattern), "cache-control", "Cache-Control: " + value + "\r\n"});
}

void header_rules::add_cors(const option_text& rule) {
    const auto [pattern, origin] = pattern_and_value(rule, "PATTERN ORIGIN");
    const std::size_t host = origin.find("://");
    if (origin != "*" && (host == origin.npos || origin.find('/', host + 3) != origin.npos ||
                          origin.find_first_of(" ,") != origin.npos))
        rule.fail("the origin must be * or as in https://example.org, without a path");
    std::string lines = "Access-Control-Allow-Origin: " + origin + "\r\n";
    if (origin != "*") lines += "Vary: Origin\r\n";
    rules_.push_back({path_pattern(pattern), "access-control-allow-origin", std::move(lines),
                      "Access-Control-Allow-Methods: GET, HEAD, OPTIONS\r\n"
                      "Access-Control-Allow-Headers: *\r\nAccess-Control-Max-Age: 86400\r\n"});
}

void header_rules::add_default(std::string line) {
    std::string field = in_lower_case(line.substr(0, line.find(':')));
    rules_.push_back({path_pattern("/*"), std::move(field), std::move(line)});
}

bool header_rules::has_field(std::string_view name) const noexcept {
    return std::ranges::any_of(
        rules_, [&](const rule& each) { return same_ignoring_case(name, each.field); });
}

std::string header_rules::lines_for(std::string_view name, std::string_view media_type,
                                    bool is_options) const {
    std::string lines;
    std::vector<std::string_view> fields;
    for (const rule& each : rules_) {
        if (!each.pattern.matches(name, media_type)) continue;
        if (std::ranges::find(fields, each.field) != fields.end()) continue;
        fields.emplace_back(each.field);
        lines += each.lines;
        if (is_options) lines += each.preflight_lines;
    }
    return lines;
}

redirect_rule parse_redirect(const option_text& rule) {
    constexpr const char* form =
        "it must be 'FROM TO' or 'FROM TO STATUS', as in '/old/* /new/* 301'";
    const auto [from, rest] = split_word(rule.text);
    const auto [target, status] = split_word(rest);
    redirect_rule made;
    if (!from.starts_with('/') || target.empty() || !all_are(from, path_character) ||
        !all_are(target, query_character))
        rule.fail(form);
    if (!target.starts_with('/') && target.find("://") == target.npos)
        rule.fail("the target must be a path or a URL");
    if (target.starts_with("//") || target.starts_with("/\\"))
        rule.fail("a target that begins with // names another host; write its URL");
    made.is_prefix = from.ends_with('*');
    made.prefix = from.substr(0, from.size() - (made.is_prefix ? 1 : 0));
    if (made.prefix.find('*') != std::string::npos ||
        std::ranges::count(target, '*') > (made.is_prefix ? 1 : 0))
        rule.fail("a * belongs at the end of FROM, and once in TO");
    made.target = target;
    if (status.empty()) return made;
    constexpr std::array statuses{std::string_view("301"), std::string_view("302"),
                                  std::string_view("303"), std::string_view("307"),
                                  std::string_view("308")};
    const auto found = std::ranges::find(statuses, status);
    if (found == statuses.end()) rule.fail("the status must be 301, 302, 303, 307 or 308");
    made.status = 300 + static_cast<unsigned>(status[2] - '0');
    return made;
}

std::optional<redirection> find_redirect(const std::vector<redirect_rule>& rules,
                                         std::string_view path) {
    for (const redirect_rule& each : rules) {
        const bool matches = each.is_prefix ? path.starts_with(each.prefix) : path == each.prefix;
        if (!matches) continue;
        std::string location = each.target;
        if (const std::size_t star = location.find('*'); star != location.npos && each.is_prefix) {
            std::string_view rest = path.substr(each.prefix.size());
            // "//host" and "/\host" name another host.
            while (star <= 1 && location.starts_with('/') &&
                   (rest.starts_with('/') || rest.starts_with('\\')))
                rest.remove_prefix(1);
            location.replace(star, 1, rest);
        }
        return redirection{std::move(location), each.status};
    }
    return std::nullopt;
}

}  // namespace httpd
