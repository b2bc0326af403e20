// parser_test.hpp: helpers of the tests of the request parser.
#pragma once

#include "examples/httpd/http/request_parser.hpp"

#include "tests/support/catch.hpp"

#include <array>
#include <initializer_list>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

namespace httpd::testing {

// All that a user of the parser can see.
struct outcome {
    parse_state state = parse_state::incomplete;
    parse_error error = parse_error::none;
    std::string request_line;
    std::string method;
    std::string target;
    std::string path;
    std::string query;
    std::string authority;
    std::string fields;
    unsigned minor_version = 0;
    bool keep_alive = false;
    bool chunked = false;
    std::optional<std::uint64_t> content_length;
    expectation expects = expectation::none;
    std::size_t size = 0;

    bool operator==(const outcome&) const = default;
};

inline std::ostream& operator<<(std::ostream& out, const outcome& value) {
    return out << static_cast<int>(value.state) << ' ' << text_of(value.error) << " ["
               << value.request_line << "] [" << value.method << "] [" << value.path << "] ["
               << value.query << "] [" << value.authority << "] " << value.size << ' '
               << value.fields;
}

inline outcome outcome_of(const request_parser& parser) {
    outcome seen;
    seen.state = parser.state();
    seen.error = parser.error();
    const request_head& head = parser.head();
    if (seen.state != parse_state::incomplete) seen.request_line = head.request_line();
    if (seen.state != parse_state::complete) return seen;
    seen.method = head.method_name();
    seen.target = head.target();
    seen.path = head.path();
    seen.query = head.query();
    seen.authority = head.authority();
    seen.minor_version = head.minor_version();
    seen.keep_alive = head.keep_alive();
    seen.chunked = head.chunked();
    seen.content_length = head.content_length();
    seen.expects = head.expects();
    seen.size = head.size();
    for (std::size_t index = 0; index < known_field_count; ++index) {
        const auto field = static_cast<known_field>(index);
        std::array<char, 1024> scratch{};
        const auto value = head.list(field, scratch);
        seen.fields += value ? std::string(*value) + '|' : "-|";
    }
    return seen;
}

// Each piece has memory of its own that ends with it, and is freed before the next one.
inline outcome parse_in_pieces(std::string_view text, const std::vector<std::size_t>& ends) {
    request_parser parser;
    std::unique_ptr<char[]> buffer;
    for (const std::size_t end : ends) {
        auto next = std::make_unique<char[]>(end == 0 ? 1 : end);
        text.copy(next.get(), end);
        buffer = std::move(next);
        if (parser.parse({buffer.get(), end}) != parse_state::incomplete) break;
    }
    return outcome_of(parser);
}

// The outcome of `text`, which is the same however it is split.
inline outcome parse(std::string_view text) {
    const outcome whole = parse_in_pieces(text, {text.size()});
    for (std::size_t split = 0; split < text.size(); ++split) {
        const outcome in_two = parse_in_pieces(text, {split, text.size()});
        if (in_two != whole) {
            CAPTURE(split);
            CHECK(in_two == whole);
            break;
        }
    }
    std::vector<std::size_t> ends;
    for (std::size_t end = 0; end <= text.size(); ++end) ends.push_back(end);
    CHECK(parse_in_pieces(text, ends) == whole);
    return whole;
}

inline std::string with_field(std::string_view field_line) {
    return "GET / HTTP/1.1\r\nHost: a\r\n" + std::string(field_line) + "\r\n\r\n";
}

inline std::string with_line(std::string_view request_line) {
    return std::string(request_line) + "\r\nHost: a\r\n\r\n";
}

struct refused_case {
    const char* rule;
    std::string text;
    parse_error error;
    unsigned status;
};

inline void check_refused(const std::vector<refused_case>& cases) {
    for (const refused_case& one : cases) {
        INFO(one.rule << ": " << one.text);
        const outcome seen = parse(one.text);
        CHECK(seen.state == parse_state::refused);
        CHECK(text_of(seen.error) == text_of(one.error));
        CHECK(status_of(seen.error) == one.status);
    }
}

inline std::string bytes(std::initializer_list<std::string_view> parts) {
    std::string all;
    for (const std::string_view part : parts) all += part;
    return all;
}

}  // namespace httpd::testing
