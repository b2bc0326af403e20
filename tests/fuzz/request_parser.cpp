// request_parser.cpp: the outcome of a head does not depend on how it is split, and the properties
// of an accepted head are correct.
#include "examples/httpd/http/request_parser.hpp"

#include <array>

#include "examples/httpd/http/characters.hpp"
#include "fuzz.hpp"

namespace {

using namespace httpd;
using fuzz::check;

bool lies_in(std::string_view part, std::string_view whole) {
    return part.empty() || (part.data() >= whole.data() &&
                            part.data() + part.size() <= whole.data() + whole.size());
}

void check_same(const request_parser& one, const request_parser& other) {
    check(one.state() == other.state(), "the state is the same");
    check(one.error() == other.error(), "the refusal is the same");
    if (one.state() == parse_state::incomplete) return;
    const request_head& left = one.head();
    const request_head& right = other.head();
    check(left.request_line() == right.request_line(), "the request line is the same");
    if (one.state() != parse_state::complete) return;
    check(left.size() == right.size(), "the size is the same");
    check(left.method() == right.method() && left.method_name() == right.method_name(),
          "the method is the same");
    check(left.form() == right.form() && left.target() == right.target() &&
              left.path() == right.path() && left.query() == right.query() &&
              left.has_query() == right.has_query() && left.authority() == right.authority(),
          "the target is the same");
    check(left.minor_version() == right.minor_version() &&
              left.keep_alive() == right.keep_alive() && left.chunked() == right.chunked() &&
              left.content_length() == right.content_length() && left.expects() == right.expects(),
          "the framing is the same");
    for (std::size_t index = 0; index < known_field_count; ++index) {
        const auto field = static_cast<known_field>(index);
        check(left.has(field) == right.has(field) && left.text(field) == right.text(field) &&
                  left.repeated(field) == right.repeated(field),
              "the fields are the same");
    }
}

void check_head(const request_head& head, std::string_view received) {
    check(head.size() <= received.size(), "the head is within the buffer");
    const std::string_view text = received.substr(0, head.size());
    check(text.ends_with("\r\n\r\n"), "a head ends with an empty line");
    check(text.find('\0') == text.npos, "no NUL");
    check(lies_in(head.request_line(), text) && lies_in(head.target(), text) &&
              lies_in(head.query(), text),
          "views are of the head");
    check(all_are(head.method_name(), token_character) && !head.method_name().empty(),
          "a method is a token");
    check(head.path().find_first_of(" \t?#") == std::string_view::npos, "the path is one");
    switch (head.form()) {
        case target_form::origin:
        case target_form::absolute: check(head.path().starts_with('/'), "a path is rooted"); break;
        case target_form::asterisk:
            check(head.path() == "*" && head.method() == request_method::options, "OPTIONS *");
            break;
        case target_form::authority:
            check(head.path().empty() && head.method() == request_method::connect, "CONNECT");
            break;
    }
    check(!(head.chunked() && head.content_length()), "one framing only");
    check(head.minor_version() == 0 || head.has(known_field::host), "1.1 has Host");
    check(!head.repeated(known_field::host), "one Host");

    std::array<char, 64> scratch{};
    for (std::size_t index = 0; index < known_field_count; ++index) {
        const auto field = static_cast<known_field>(index);
        const auto list = head.list(field, scratch);
        if (!head.repeated(field)) {
            check(list.has_value() == head.has(field), "a field is there or not");
            if (list) check(lies_in(*list, text) && *list == head.text(field), "one line as is");
        } else if (list) {
            check(list->starts_with(head.text(field)), "the first line comes first");
        }
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text = fuzz::text_of(data, size);
    // Small limits, so that they are met.
    const head_limits limits{.request_line_bytes = 64, .field_bytes = 200, .field_count = 9};
    const fuzz::exact_copy whole(text);
    request_parser fast_path_result(limits);
    fast_path_result.parse(whole.text());
    if (fast_path_result.state() == parse_state::complete)
        check_head(fast_path_result.head(), whole.text());

    {
        request_parser in_two(limits);
        const fuzz::exact_copy first(text.substr(0, fuzz::pick(text, size + 1)));
        in_two.parse(first.text());
        in_two.parse(whole.text());
        check_same(fast_path_result, in_two);
    }
    request_parser bytewise(limits);
    for (std::size_t end = 0; end <= size; ++end) {
        if (bytewise.parse(whole.text().substr(0, end)) != parse_state::incomplete) break;
    }
    bytewise.parse(whole.text());
    check_same(fast_path_result, bytewise);

    // A head alone says the same as with something behind it.
    if (fast_path_result.state() == parse_state::complete) {
        const fuzz::exact_copy alone(text.substr(0, fast_path_result.head().size()));
        request_parser again(limits);
        again.parse(alone.text());
        check_same(fast_path_result, again);
    }
    return 0;
}
