#include "conditions.hpp"

#include <algorithm>
#include <array>
#include <charconv>

#include "characters.hpp"
#include "http_date.hpp"
#include "request_head.hpp"

namespace httpd {
namespace {

using compare = bool (*)(std::string_view, std::string_view) noexcept;

// Takes an entity tag off the front; nothing when there is none, or no whole one.
std::optional<std::string_view> take_tag(std::string_view& text) noexcept {
    const std::size_t opening = text.starts_with("W/") ? 2 : 0;
    if (opening >= text.size() || text[opening] != '"') return std::nullopt;
    std::size_t index = opening + 1;
    while (index < text.size() && is(text[index], opaque_character)) ++index;
    if (index == text.size() || text[index] != '"') return std::nullopt;
    const std::string_view tag = text.substr(0, index + 1);
    text.remove_prefix(tag.size());
    return tag;
}

// Whether a list has a tag that equals the file's, or is "*", which any file does. Members after
// a malformed one are ignored.
bool lists(std::string_view list, std::string_view file_tag, compare equal) noexcept {
    if (trimmed(list) == "*") return true;
    while (true) {
        while (!list.empty() && (is_blank(list.front()) || list.front() == ',')) {
            list.remove_prefix(1);
        }
        const auto tag = take_tag(list);
        if (!tag) return false;
        const std::string_view rest = trimmed(list);
        if (!rest.empty() && rest.front() != ',') return false;
        if (!file_tag.empty() && equal(*tag, file_tag)) return true;
    }
}

}  // namespace

entity_tag::entity_tag(std::uint64_t version, std::uint64_t file_bytes, std::string_view coding,
                       strength kind) noexcept {
    char* position = text_.data();
    char* const end = position + text_.size();
    if (kind == strength::weak) {
        *position++ = 'W';
        *position++ = '/';
    }
    *position++ = '"';
    position = std::to_chars(position, end, version, 16).ptr;
    *position++ = '-';
    position = std::to_chars(position, end, file_bytes, 16).ptr;
    if (!coding.empty()) {
        *position++ = '-';
        position = std::copy_n(coding.begin(), std::min<std::size_t>(coding.size(), 8), position);
    }
    *position++ = '"';
    size_ = static_cast<std::uint8_t>(position - text_.data());
}

bool has_condition_or_range(const request_head& head) noexcept {
    constexpr std::array fields{known_field::if_match, known_field::if_none_match,
                                known_field::if_modified_since, known_field::if_unmodified_since,
                                known_field::range};
    for (const known_field field : fields)
        if (head.has(field)) return true;
    return false;
}

bool match_strongly(std::string_view one, std::string_view other) noexcept {
    return one == other && one.starts_with('"');
}

bool match_weakly(std::string_view one, std::string_view other) noexcept {
    if (one.starts_with("W/")) one.remove_prefix(2);
    if (other.starts_with("W/")) other.remove_prefix(2);
    return one == other && !one.empty();
}

condition_fields condition_fields_of(const request_head& head, std::span<char> scratch) noexcept {
    const auto list = [&](known_field field) -> std::optional<std::string_view> {
        if (!head.has(field)) return std::nullopt;
        const auto value = head.list(field, scratch);
        if (!value) return "";
        if (value->data() == scratch.data()) scratch = scratch.subspan(value->size());
        return value;
    };
    condition_fields fields;
    fields.if_match = list(known_field::if_match);
    fields.if_none_match = list(known_field::if_none_match);
    fields.if_modified_since = head.single(known_field::if_modified_since);
    fields.if_unmodified_since = head.single(known_field::if_unmodified_since);
    return fields;
}

// A date that cannot be read is ignored, and so is any date if the file has none (RFC
// 9110 13.1.3, 13.1.4).
condition_outcome evaluate(const condition_fields& fields, const validators& file, bool get_or_head,
                           std::int64_t now_second) noexcept {
    using enum condition_outcome;
    if (fields.if_match) {
        if (!lists(*fields.if_match, file.entity_tag, match_strongly)) return precondition_failed;
    } else if (fields.if_unmodified_since && file.modified_second) {
        const auto since = parse_http_date(*fields.if_unmodified_since, now_second);
        if (since && *file.modified_second > *since) return precondition_failed;
    }
    if (fields.if_none_match) {
        if (lists(*fields.if_none_match, file.entity_tag, match_weakly)) {
            return get_or_head ? not_modified : precondition_failed;
        }
    } else if (fields.if_modified_since && get_or_head && file.modified_second) {
        const auto since = parse_http_date(*fields.if_modified_since, now_second);
        if (since && *file.modified_second <= *since) return not_modified;
    }
    return proceed;
}

bool if_range_matches(const request_head& head, const validators& file,
                      std::int64_t now_second) noexcept {
    if (!head.has(known_field::if_range)) return true;
    const auto value = head.single(known_field::if_range);
    if (!value) return false;
    std::string_view rest = *value;
    if (const auto tag = take_tag(rest)) {
        return rest.empty() && match_strongly(*tag, file.entity_tag);
    }
    const auto date = parse_http_date(*value, now_second);
    // RFC 9110 8.8.2.2: a change within the second of the response may not show in the date.
    return date && file.modified_second && *date == *file.modified_second &&
           *file.modified_second < now_second;
}

}  // namespace httpd
