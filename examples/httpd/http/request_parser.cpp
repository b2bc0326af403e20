#include "request_parser.hpp"

#include <array>
#include <cstring>
#include <limits>

#include "characters.hpp"
#include "field_names.hpp"
#include "scan.hpp"

namespace httpd {
namespace {

struct parse_error_row {
    parse_error error;
    std::uint16_t status;
    std::string_view text;
};

constexpr std::array parse_error_table{
    parse_error_row{parse_error::none, 200, "nothing"},
    parse_error_row{parse_error::control_character, 400, "control character"},
    parse_error_row{parse_error::bare_line_feed, 400, "line feed without carriage return"},
    parse_error_row{parse_error::bare_carriage_return, 400, "carriage return without line feed"},
    parse_error_row{parse_error::bad_request_line, 400, "malformed request line"},
    parse_error_row{parse_error::bad_method, 400, "malformed method"},
    parse_error_row{parse_error::bad_target, 400, "malformed target"},
    parse_error_row{parse_error::bad_version, 400, "malformed version"},
    parse_error_row{parse_error::version_not_supported, 505, "version is not 1.x"},
    parse_error_row{parse_error::request_line_too_long, 414, "request line too long"},
    parse_error_row{parse_error::method_too_long, 501, "method too long"},
    parse_error_row{parse_error::folded_line, 400, "folded field line"},
    parse_error_row{parse_error::bad_field_line, 400, "malformed field line"},
    parse_error_row{parse_error::fields_too_large, 431, "field lines too large"},
    parse_error_row{parse_error::too_many_fields, 431, "too many field lines"},
    parse_error_row{parse_error::host_missing, 400, "no Host"},
    parse_error_row{parse_error::host_repeated, 400, "more than one Host"},
    parse_error_row{parse_error::host_invalid, 400, "malformed Host"},
    parse_error_row{parse_error::host_empty, 400, "empty Host"},
    parse_error_row{parse_error::length_invalid, 400, "malformed Content-Length"},
    parse_error_row{parse_error::length_repeated, 400, "more than one Content-Length"},
    parse_error_row{parse_error::length_and_coding, 400, "Content-Length and Transfer-Encoding"},
    parse_error_row{parse_error::coding_in_version_1_0, 400, "Transfer-Encoding in HTTP/1.0"},
    parse_error_row{parse_error::coding_invalid, 400, "malformed Transfer-Encoding"},
    parse_error_row{parse_error::coding_not_chunked, 400, "last transfer coding is not chunked"},
    parse_error_row{parse_error::coding_unknown, 501, "transfer coding not implemented"},
};

constexpr bool rows_follow_the_enum() {
    for (std::size_t index = 0; index < parse_error_table.size(); ++index) {
        if (parse_error_table[index].error != static_cast<parse_error>(index)) return false;
    }
    return true;
}
static_assert(rows_follow_the_enum());

const parse_error_row& row_of(parse_error error) noexcept {
    return parse_error_table[static_cast<std::size_t>(error)];
}

// Lines end with CR, which is in no class of characters: a search for the first byte that is not in
// a class stops there, and needs no bound.
std::size_t skip(const char* base, std::size_t position, character_class classes) noexcept {
    while (is(base[position], classes)) ++position;
    return position;
}

request_method method_of(std::string_view name) noexcept {
    using enum request_method;
    if (name == "GET") return get;
    if (name == "HEAD") return head;
    if (name == "POST") return post;
    if (name == "PUT") return put;
    if (name == "DELETE") return delete_;
    if (name == "CONNECT") return connect;
    if (name == "OPTIONS") return options;
    if (name == "TRACE") return trace;
    if (name == "PATCH") return patch;
    return unknown;
}

bool is_port(std::string_view digits) noexcept {
    unsigned port = 0;
    for (const char digit : digits) {
        if (!is(digit, digit_character)) return false;
        port = port * 10 + static_cast<unsigned>(digit - '0');
        if (port > 65535) return false;
    }
    return true;
}

// uri-host [ ":" port ] of RFC 9110 7.2; the host is not empty. Stricter than the RFC: no percent
// encoding, no comma and a port of 16 bits, because other forms are sent only to confuse two
// readers.
bool is_authority(std::string_view text) noexcept {
    std::size_t host_end = 0;
    if (text.starts_with('[')) {
        host_end = text.find(']');
        if (host_end == text.npos || host_end < 3) return false;
        for (const char byte : text.substr(1, host_end - 1)) {
            if (!is(byte, host_character) && byte != ':') return false;
        }
        ++host_end;
    } else {
        host_end = skip(text.data(), 0, host_character);  // what follows in the line is none
        if (host_end == 0) return false;
    }
    if (host_end == text.size()) return true;
    return text[host_end] == ':' && is_port(text.substr(host_end + 1));
}

// Takes the first member off a comma-separated list.
std::string_view take_member(std::string_view& list) noexcept {
    const std::size_t comma = list.find(',');
    const std::string_view member = trimmed(list.substr(0, comma));
    list.remove_prefix(comma == list.npos ? list.size() : comma + 1);
    return member;
}

}  // namespace

std::uint16_t status_of(parse_error error) noexcept { return row_of(error).status; }
std::string_view text_of(parse_error error) noexcept { return row_of(error).text; }

// Hot path: no allocation, and one look at each byte until its line is whole. Flattened: with its
// parts called, not built in, it takes a sixth more instructions.
[[gnu::flatten]] parse_state request_parser::parse(std::string_view received) noexcept {
    const char* const base = received.data();
    head_.rebase(base);
    if (state_ != parse_state::incomplete) return state_;

    std::size_t position = scanned_;
    while (true) {
        const std::size_t last = std::min<std::size_t>(received.size(), bound_);
        position = static_cast<std::size_t>(detail::skip_text(base + position, base + last) - base);
        if (position == last) {
            if (last == bound_) {
                return fail(phase_ == phase::fields ? parse_error::fields_too_large
                                                    : line_too_long_error(position),
                            position);
            }
            break;
        }
        if (base[position] != '\r') {
            return fail(base[position] == '\n' ? parse_error::bare_line_feed
                                               : parse_error::control_character,
                        position);
        }
        if (position + 1 == received.size()) break;
        if (base[position + 1] != '\n') return fail(parse_error::bare_carriage_return, position);

        const std::size_t line_first = line_first_;
        const parse_error error = read_line(line_first, position);
        if (error != parse_error::none) return fail(error, position);
        if (state_ == parse_state::complete) return state_;
        position += 2;
        line_first_ = static_cast<std::uint16_t>(position);
    }
    scanned_ = static_cast<std::uint16_t>(position);
    return state_;
}

parse_state request_parser::fail(parse_error error, std::size_t end) noexcept {
    error_ = error;
    state_ = parse_state::refused;
    if (phase_ != phase::fields) head_.line_ = head_.slice_of(line_first_, end);
    return state_;
}

// RFC 9112 3: a method that is longer than any known one is answered by 501, a longer target by
// 414.
parse_error request_parser::line_too_long_error(std::size_t last) const noexcept {
    const std::string_view line(head_.base_ + line_first_, last - line_first_);
    return all_are(line, token_character) ? parse_error::method_too_long
                                          : parse_error::request_line_too_long;
}

parse_error request_parser::read_line(std::size_t first, std::size_t last) noexcept {
    if (phase_ == phase::fields) {
        if (first != last) return read_field_line(first, last);
        head_.size_ = static_cast<std::uint16_t>(last + 2);
        const parse_error error = finish();
        if (error == parse_error::none) state_ = parse_state::complete;
        return error;
    }
    if (phase_ == phase::before) {
        phase_ = phase::request_line;
        if (first == last) {
            // RFC 9112 2.2: one empty line before the request is skipped.
            bound_ = static_cast<std::uint16_t>(bound_ + 2);
            return parse_error::none;
        }
    }
    const parse_error error = read_request_line(first, last);
    if (error != parse_error::none) return error;
    phase_ = phase::fields;
    head_.line_ = head_.slice_of(first, last);
    head_.fields_first_ = static_cast<std::uint16_t>(last + 2);
    // The closing line's CR may follow the last byte that a field may have.
    bound_ = static_cast<std::uint16_t>(head_.fields_first_ + field_bytes_limit_ + 1);
    return parse_error::none;
}

parse_error request_parser::read_request_line(std::size_t first, std::size_t last) noexcept {
    const std::string_view line(head_.base_ + first, last - first);
    const std::size_t method_size = skip(head_.base_, first, token_character) - first;
    if (method_size == line.size()) return parse_error::bad_request_line;
    if (method_size == 0 || line[method_size] != ' ') return parse_error::bad_method;

    std::size_t version_first = line.size() - 8;  // too large when there is none
    if (!line.ends_with(" HTTP/1.1") || version_first == method_size + 1) {
        version_first = line.rfind(' ') + 1;
        if (version_first == method_size + 1)
            return parse_error::bad_request_line;  // as in HTTP/0.9
        const std::string_view version = line.substr(version_first);
        if (version.size() != 8 || !version.starts_with("HTTP/") || version[6] != '.' ||
            !is(version[5], digit_character) || !is(version[7], digit_character)) {
            return parse_error::bad_version;
        }
        if (version[5] != '1') return parse_error::version_not_supported;
        if (version[7] == '0') head_.minor_version_ = 0;
    }
    head_.method_name_ = head_.slice_of(first, first + method_size);
    head_.method_ = method_of(line.substr(0, method_size));
    return read_target(first + method_size + 1, first + version_first - 1);
}

parse_error request_parser::read_target(std::size_t first, std::size_t last) noexcept {
    const std::string_view target(head_.base_ + first, last - first);
    if (target.empty()) return parse_error::bad_target;
    head_.target_ = head_.slice_of(first, last);
    if (head_.method_ == request_method::connect) {
        head_.form_ = target_form::authority;
        head_.authority_ = head_.target_;
        const bool port =
            !target.ends_with(':') && target.find(':') != target.npos && !target.ends_with(']');
        return port && is_authority(target) ? parse_error::none : parse_error::bad_target;
    }
    if (target.front() == '/') {
        head_.form_ = target_form::origin;
        return read_path(first, last);
    }
    if (target == "*" && head_.method_ == request_method::options) {
        head_.form_ = target_form::asterisk;
        head_.path_ = head_.target_;
        return parse_error::none;
    }
    return read_absolute_target(first, last);
}

parse_error request_parser::read_absolute_target(std::size_t first, std::size_t last) noexcept {
    const std::string_view target(head_.base_ + first, last - first);
    const std::size_t scheme_size = target.find("://");
    if (scheme_size == target.npos) return parse_error::bad_target;
    const std::string_view scheme = target.substr(0, scheme_size);
    if (!same_ignoring_case(scheme, "http") && !same_ignoring_case(scheme, "https")) {
        return parse_error::bad_target;
    }
    head_.form_ = target_form::absolute;
    const std::size_t authority_first = scheme_size + 3;
    const std::size_t path_first =
        std::min(target.find_first_of("/?", authority_first), target.size());
    if (!is_authority(target.substr(authority_first, path_first - authority_first))) {
        return parse_error::bad_target;
    }
    head_.authority_ = head_.slice_of(first + authority_first, first + path_first);
    return read_path(first + path_first, last);
}

parse_error request_parser::read_path(std::size_t first, std::size_t last) noexcept {
    const char* const base = head_.base_;
    std::size_t position = skip(base, first, path_character);
    head_.path_ = head_.slice_of(first, position);
    if (position == last) return parse_error::none;
    if (base[position] != '?') return parse_error::bad_target;
    const std::size_t query_first = position + 1;
    position = skip(base, position + 1, query_character);
    if (position < last) return parse_error::bad_target;
    head_.has_query_ = true;
    head_.query_ = head_.slice_of(query_first, last);
    return parse_error::none;
}

parse_error request_parser::read_field_line(std::size_t first, std::size_t last) noexcept {
    const char* const base = head_.base_;
    if (is_blank(base[first])) return parse_error::folded_line;
    if (last + 2 > std::size_t{head_.fields_first_} + field_bytes_limit_) {
        return parse_error::fields_too_large;
    }
    if (field_count_ == field_count_limit_) return parse_error::too_many_fields;
    ++field_count_;

    const auto colon =
        static_cast<std::size_t>(detail::skip_name(base + first, base + last) - base);
    // A blank before the colon ends up here, too (RFC 9112 5.1).
    if (colon == last || base[colon] != ':' || colon == first) return parse_error::bad_field_line;
    const auto field = find_known_field({base + first, colon - first});
    if (!field) return parse_error::none;

    std::size_t value_first = colon + 1;
    while (value_first < last && is_blank(base[value_first])) ++value_first;
    while (last > value_first && is_blank(base[last - 1])) --last;
    if (head_.has(*field)) {
        head_.repeated_ |= request_head::bit(*field);
    } else {
        head_.present_ |= request_head::bit(*field);
        head_.values_[static_cast<std::size_t>(*field)] = head_.slice_of(value_first, last);
    }
    return read_framing_field(*field, {base + value_first, last - value_first});
}

parse_error request_parser::read_framing_field(known_field field, std::string_view value) noexcept {
    switch (field) {
        case known_field::host:
            if (head_.repeated(field)) return parse_error::host_repeated;
            // RFC 9112 3.2: empty where the target's URI has no authority.
            return value.empty() || is_authority(value) ? parse_error::none
                                                        : parse_error::host_invalid;
        case known_field::content_length: return read_content_length(value);
        case known_field::transfer_encoding: return read_transfer_encoding(value);
        case known_field::connection: read_connection(value); return parse_error::none;
        case known_field::expect:
            if (!same_ignoring_case(value, "100-continue")) {
                head_.expectation_ = expectation::unsupported;
            } else if (head_.expectation_ == expectation::none) {
                head_.expectation_ = expectation::continue_100;
            }
            return parse_error::none;
        default: return parse_error::none;
    }
}

// RFC 9112 6.3 would accept equal lengths as one. They are sent only to find a reader that takes
// the other.
parse_error request_parser::read_content_length(std::string_view value) noexcept {
    if (head_.repeated(known_field::content_length)) return parse_error::length_repeated;
    if (value.empty()) return parse_error::length_invalid;
    constexpr auto length_max =
        static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());  // as off_t has it
    std::uint64_t length = 0;
    for (const char byte : value) {
        if (!is(byte, digit_character)) return parse_error::length_invalid;
        const auto digit = static_cast<std::uint64_t>(byte - '0');
        if (length > (length_max - digit) / 10) return parse_error::length_invalid;
        length = length * 10 + digit;
    }
    head_.content_length_ = length;
    return parse_error::none;
}

// No coding but chunked is undone here. A coding that follows chunked, or has parameters, or is no
// token, is malformed; an empty member is, too, for it is a known way past other readers.
parse_error request_parser::read_transfer_encoding(std::string_view value) noexcept {
    if (head_.minor_version_ == 0) return parse_error::coding_in_version_1_0;
    do {
        const bool more = value.find(',') != value.npos;
        const std::string_view member = take_member(value);
        if (more && trimmed(value).empty()) return parse_error::coding_invalid;
        const std::string_view name = trimmed(member.substr(0, member.find(';')));
        if (name.empty() || !all_are(name, token_character)) return parse_error::coding_invalid;
        const bool chunked = same_ignoring_case(name, "chunked");
        if (head_.chunked_ || (chunked && name.size() != member.size())) {
            return parse_error::coding_invalid;
        }
        if (chunked) {
            head_.chunked_ = true;
        } else {
            other_coding_ = true;
        }
    } while (!value.empty());
    return parse_error::none;
}

void request_parser::read_connection(std::string_view value) noexcept {
    while (!value.empty()) {
        const std::string_view member = take_member(value);
        if (same_ignoring_case(member, "close")) head_.connection_close_ = true;
        if (same_ignoring_case(member, "keep-alive")) head_.connection_keep_alive_ = true;
    }
}

// Checks that need the whole head.
parse_error request_parser::finish() noexcept {
    if (!head_.has(known_field::host) && head_.minor_version_ != 0)
        return parse_error::host_missing;
    // RFC 9112 3.2 and 3.3: an absolute target names the host, and Host is ignored. Otherwise an
    // empty Host names none, and an http URI without a host is invalid (RFC 9110 4.2.1). HTTP/1.0
    // knows no Host: there an empty one is the same as none.
    if (head_.minor_version_ != 0 && head_.authority().empty()) return parse_error::host_empty;
    if (head_.has(known_field::transfer_encoding)) {
        if (head_.has(known_field::content_length)) return parse_error::length_and_coding;
        if (!head_.chunked_) return parse_error::coding_not_chunked;
        if (other_coding_) return parse_error::coding_unknown;
    }
    // RFC 9110 10.1.1: HTTP/1.0 knows no 100 (Continue).
    if (head_.minor_version_ == 0) head_.expectation_ = expectation::none;
    return parse_error::none;
}

}  // namespace httpd
