#include "examples/httpd/request_parser.hpp"

#include "tests/support/catch.hpp"

#include <array>
#include <memory>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

using namespace httpd;

namespace {

// All that a user of the parser can see.
struct outcome {
    parse_state state = parse_state::incomplete;
    refusal why = refusal::none;
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

std::ostream& operator<<(std::ostream& out, const outcome& value) {
    return out << static_cast<int>(value.state) << ' ' << text_of(value.why) << " ["
               << value.request_line << "] [" << value.method << "] [" << value.path << "] ["
               << value.query << "] [" << value.authority << "] " << value.size << ' '
               << value.fields;
}

outcome outcome_of(const request_parser& parser) {
    outcome seen;
    seen.state = parser.state();
    seen.why = parser.why();
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

// Each piece stands in memory of its own that ends with it, and is gone when the next one comes.
outcome parse_in_pieces(std::string_view text, const std::vector<std::size_t>& ends) {
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
outcome parse(std::string_view text) {
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

std::string with_field(std::string_view field_line) {
    return "GET / HTTP/1.1\r\nHost: a\r\n" + std::string(field_line) + "\r\n\r\n";
}

std::string with_line(std::string_view request_line) {
    return std::string(request_line) + "\r\nHost: a\r\n\r\n";
}

struct refused_case {
    const char* rule;
    std::string text;
    refusal why;
    unsigned status;
};

void check_refused(const std::vector<refused_case>& cases) {
    for (const refused_case& one : cases) {
        INFO(one.rule << ": " << one.text);
        const outcome seen = parse(one.text);
        CHECK(seen.state == parse_state::refused);
        CHECK(text_of(seen.why) == text_of(one.why));
        CHECK(status_of(seen.why) == one.status);
    }
}

std::string bytes(std::initializer_list<std::string_view> parts) {
    std::string all;
    for (const std::string_view part : parts) all += part;
    return all;
}

}  // namespace

TEST_CASE("a request as curl sends it is read whole", "[httpd][request_parser]") {
    const std::string text =
        "GET /a/b.html?x=1&y HTTP/1.1\r\nHost: example.com:8080\r\nUser-Agent: curl/8.0\r\n"
        "Accept: */*\r\n\r\n";

    const outcome seen = parse(text);

    CHECK(seen.state == parse_state::complete);
    CHECK(seen.request_line == "GET /a/b.html?x=1&y HTTP/1.1");
    CHECK(seen.method == "GET");
    CHECK(seen.path == "/a/b.html");
    CHECK(seen.query == "x=1&y");
    CHECK(seen.authority == "example.com:8080");
    CHECK(seen.minor_version == 1);
    CHECK(seen.keep_alive);
    CHECK_FALSE(seen.chunked);
    CHECK_FALSE(seen.content_length);
    CHECK(seen.size == text.size());
}

TEST_CASE("what follows a head is not looked at", "[httpd][request_parser]") {
    const std::string first = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n";
    const std::string second = "HEAD /2 HTTP/1.1\r\nHost: a\r\n\r\n";
    const std::string both = first + second + std::string("\0\n\x7f", 3);

    CHECK(parse(both).size == first.size());
    request_parser parser;
    REQUIRE(parser.parse(both) == parse_state::complete);
    CHECK(parser.parse(both) == parse_state::complete);  // until it is reset
    const std::string_view rest = std::string_view(both).substr(parser.head().size());
    parser.reset();
    REQUIRE(parser.parse(rest) == parse_state::complete);
    CHECK(parser.head().path() == "/2");
    CHECK(parser.head().method() == request_method::head);
    CHECK(parser.head().size() == second.size());
}

TEST_CASE("the parser knows whether a request has begun", "[httpd][request_parser]") {
    request_parser parser;

    CHECK_FALSE(parser.started());
    parser.parse("\r\n");
    CHECK_FALSE(parser.started());
    parser.parse("\r\nG");
    CHECK(parser.started());
}

TEST_CASE("a head that moves takes its views along", "[httpd][request_parser]") {
    std::string text = with_line("GET /moved HTTP/1.1");
    request_parser parser;
    REQUIRE(parser.parse(text) == parse_state::complete);
    const std::string copy = text;

    parser.head().rebase(copy.data());
    text.assign(text.size(), 'x');

    CHECK(parser.head().path() == "/moved");
}

TEST_CASE("methods are tokens, case-sensitive, and those not known are told apart",
          "[httpd][request_parser]") {
    struct {
        const char* name;
        request_method method;
    } const cases[] = {
        {"GET", request_method::get},
        {"HEAD", request_method::head},
        {"POST", request_method::post},
        {"PUT", request_method::put},
        {"DELETE", request_method::delete_},
        {"OPTIONS", request_method::options},
        {"TRACE", request_method::trace},
        {"PATCH", request_method::patch},
        {"get", request_method::unknown},
        {"BREW", request_method::unknown},
        {"!#$%&'*+-.^_`|~1a", request_method::unknown},
    };
    for (const auto& one : cases) {
        CAPTURE(one.name);
        const std::string text = with_line(std::string(one.name) + " / HTTP/1.1");
        request_parser parser;
        REQUIRE(parser.parse(text) == parse_state::complete);
        CHECK(parser.head().method() == one.method);
        CHECK(parser.head().method_name() == one.name);
        CHECK(parse(text).state == parse_state::complete);
    }
}

TEST_CASE("the four forms of a target are read", "[httpd][request_parser]") {
    struct {
        const char* line;
        target_form form;
        const char* path;
        const char* query;
        const char* authority;
    } const cases[] = {
        {"GET / HTTP/1.1", target_form::origin, "/", "", "a"},
        {"GET /? HTTP/1.1", target_form::origin, "/", "", "a"},
        {"GET /x?a?b/../%2 HTTP/1.1", target_form::origin, "/x", "a?b/../%2", "a"},
        {"GET //x//y HTTP/1.1", target_form::origin, "//x//y", "", "a"},
        // RFC 9112 3.2.2: the target's authority replaces Host.
        {"GET http://b/x?y HTTP/1.1", target_form::absolute, "/x", "y", "b"},
        {"GET HTTP://b:80 HTTP/1.1", target_form::absolute, "/", "", "b:80"},
        {"GET https://b?y HTTP/1.1", target_form::absolute, "/", "y", "b"},
        {"GET http://[::1]:80/ HTTP/1.1", target_form::absolute, "/", "", "[::1]:80"},
        {"OPTIONS * HTTP/1.1", target_form::asterisk, "*", "", "a"},
        {"OPTIONS /x HTTP/1.1", target_form::origin, "/x", "", "a"},
        {"CONNECT b:443 HTTP/1.1", target_form::authority, "", "", "b:443"},
        {"CONNECT [::1]:443 HTTP/1.1", target_form::authority, "", "", "[::1]:443"},
    };
    for (const auto& one : cases) {
        CAPTURE(one.line);
        const std::string text = with_line(one.line);
        request_parser parser;
        REQUIRE(parser.parse(text) == parse_state::complete);
        CHECK(parser.head().form() == one.form);
        CHECK(parser.head().path() == one.path);
        CHECK(parser.head().query() == one.query);
        CHECK(parser.head().has_query() == (text.find('?') != text.npos));
        CHECK(parser.head().authority() == one.authority);
        CHECK(parse(text).state == parse_state::complete);
    }
}

TEST_CASE("a malformed request line is refused", "[httpd][request_parser]") {
    check_refused({
        {"9112 3: three parts", with_line("GET"), refusal::bad_request_line, 400},
        {"9112 3: three parts, no HTTP/0.9", with_line("GET /"), refusal::bad_request_line, 400},
        {"9112 3: three parts", with_line("GET HTTP/1.1"), refusal::bad_request_line, 400},
        {"9112 3: three parts", with_line("HTTP/1.1"), refusal::bad_method, 400},
        {"9112 3: three parts", with_line(" HTTP/1.1"), refusal::bad_method, 400},
        {"9112 3: single spaces", with_line("GET  HTTP/1.1"), refusal::bad_target, 400},
        {"9112 3: single spaces", with_line("GET  / HTTP/1.1"), refusal::bad_target, 400},
        {"9112 3: single spaces", with_line("GET /  HTTP/1.1"), refusal::bad_target, 400},
        {"9112 3: nothing behind", with_line("GET / HTTP/1.1 "), refusal::bad_version, 400},
        {"9112 3: nothing before", with_line(" GET / HTTP/1.1"), refusal::bad_method, 400},
        {"9112 3: no tab", with_line("GET\t/ HTTP/1.1"), refusal::bad_method, 400},
        {"9112 3: no tab", with_line("GET /\tHTTP/1.1"), refusal::bad_request_line, 400},
        {"9112 3.1: a token", with_line("G(T / HTTP/1.1"), refusal::bad_method, 400},
        {"9112 3.1: a token", with_line("G\xc3\x89T / HTTP/1.1"), refusal::bad_method, 400},
        {"9112 3.2: no space", with_line("GET /a b HTTP/1.1"), refusal::bad_target, 400},
        {"9112 3.2: no fragment", with_line("GET /a#b HTTP/1.1"), refusal::bad_target, 400},
        {"9112 3.2: no fragment", with_line("GET /a?b#c HTTP/1.1"), refusal::bad_target, 400},
        {"3986: ASCII", with_line("GET /\xc3\xa4 HTTP/1.1"), refusal::bad_target, 400},
        {"9112 3.2.1: begins with a slash", with_line("GET a HTTP/1.1"), refusal::bad_target, 400},
        {"9112 3.2.1: query alone", with_line("GET ?a HTTP/1.1"), refusal::bad_target, 400},
        {"9112 3.2.2: a host", with_line("GET http:///a HTTP/1.1"), refusal::bad_target, 400},
        {"9112 3.2.2: http", with_line("GET ftp://a/ HTTP/1.1"), refusal::bad_target, 400},
        {"9110 4.2.4: no user", with_line("GET http://u@a/ HTTP/1.1"), refusal::bad_target, 400},
        {"9112 3.2.2: a port", with_line("GET http://a:99999/ HTTP/1.1"), refusal::bad_target, 400},
        {"9112 3.2.3: a port", with_line("CONNECT a HTTP/1.1"), refusal::bad_target, 400},
        {"9112 3.2.3: a port", with_line("CONNECT a: HTTP/1.1"), refusal::bad_target, 400},
        {"9112 3.2.3: a port", with_line("CONNECT [::1] HTTP/1.1"), refusal::bad_target, 400},
        {"9112 3.2.3: a host", with_line("CONNECT :443 HTTP/1.1"), refusal::bad_target, 400},
        {"9112 3.2.3: no path", with_line("CONNECT /a HTTP/1.1"), refusal::bad_target, 400},
        {"9112 3.2.4: OPTIONS only", with_line("GET * HTTP/1.1"), refusal::bad_target, 400},
        {"9112 2.3: name", with_line("GET / HTTQ/1.1"), refusal::bad_version, 400},
        {"9112 2.3: case", with_line("GET / http/1.1"), refusal::bad_version, 400},
        {"9112 2.3: digits", with_line("GET / HTTP/1.x"), refusal::bad_version, 400},
        {"9112 2.3: one digit", with_line("GET / HTTP/1.10"), refusal::bad_version, 400},
        {"9112 2.3: one digit", with_line("GET / HTTP/1"), refusal::bad_version, 400},
        {"9112 2.3: a dot", with_line("GET / HTTP/1-1"), refusal::bad_version, 400},
        {"9112 2.3: digits", with_line("GET / HTTP/x.1"), refusal::bad_version, 400},
        {"9110 15.6.6", with_line("GET / HTTP/2.0"), refusal::version_not_supported, 505},
        {"9113 3.4", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", refusal::version_not_supported, 505},
        {"9112 2.2: one empty line only", "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
         refusal::bad_request_line, 400},
    });
}

TEST_CASE("control characters and other ends of lines are refused", "[httpd][request_parser]") {
    using namespace std::string_view_literals;
    check_refused({
        {"9112 2.2: bare LF", "GET / HTTP/1.1\nHost: a\n\n", refusal::bare_line_feed, 400},
        {"9112 2.2: bare LF", "GET / HTTP/1.1\r\nHost: a\r\n\n", refusal::bare_line_feed, 400},
        {"9112 2.2: bare LF", with_field("A: b\nC: d"), refusal::bare_line_feed, 400},
        {"9112 2.2: bare LF", "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", refusal::bare_line_feed, 400},
        {"9112 2.2: bare CR", with_field("A: b\rC: d"), refusal::bare_carriage_return, 400},
        {"9112 2.2: bare CR", with_line("GET /\r HTTP/1.1"), refusal::bare_carriage_return, 400},
        {"9112 2.2: bare CR", with_field("A: b\r\r\n"), refusal::bare_carriage_return, 400},
        {"9110 5.5: NUL", bytes({"GET / HTTP/1.1\r\nHost: a\0"sv, "\r\n\r\n"sv}),
         refusal::control_character, 400},
        {"9110 5.5: NUL in a name", bytes({"GET / HTTP/1.1\r\nHo\0st: a"sv, "\r\n\r\n"sv}),
         refusal::control_character, 400},
        {"9112 3: NUL", bytes({"GET /\0 HTTP/1.1"sv, "\r\nHost: a\r\n\r\n"sv}),
         refusal::control_character, 400},
        {"9110 5.5: DEL", with_field("A: b\x7f"), refusal::control_character, 400},
        {"9110 5.5: ESC", with_field("A: \x1b[2J"), refusal::control_character, 400},
        {"TLS to a plain port", bytes({"\x16\x03\x01\x02\x00\x01"sv}), refusal::control_character,
         400},
    });
}

TEST_CASE("a malformed field line is refused", "[httpd][request_parser]") {
    check_refused({
        {"9112 5.1: blank before the colon", with_field("A : b"), refusal::bad_field_line, 400},
        {"9112 5.1: blank before the colon", with_field("A\t: b"), refusal::bad_field_line, 400},
        {"9112 5.1: blank before Host's colon", "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
         refusal::bad_field_line, 400},
        {"9112 5: a colon", with_field("A"), refusal::bad_field_line, 400},
        {"9112 5: a name", with_field(": b"), refusal::bad_field_line, 400},
        {"9110 5.1: a token", with_field("A b: c"), refusal::bad_field_line, 400},
        {"9110 5.1: a token", with_field("A(b): c"), refusal::bad_field_line, 400},
        {"9110 5.1: a token", with_field("\xc3\xa4: c"), refusal::bad_field_line, 400},
        {"9112 5.2: obs-fold", with_field("A: b\r\n c"), refusal::folded_line, 400},
        {"9112 5.2: obs-fold", with_field("A: b\r\n\tc"), refusal::folded_line, 400},
        {"9112 2.2: blank behind the request line", "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
         refusal::folded_line, 400},
        {"9112 2.2: a line of blanks", with_field(" "), refusal::folded_line, 400},
    });
}

TEST_CASE("Host is there exactly once and is a host", "[httpd][request_parser]") {
    const auto host = [](std::string_view value) {
        return "GET / HTTP/1.1\r\nHost:" + std::string(value) + "\r\n\r\n";
    };
    check_refused({
        {"9112 3.2: missing", "GET / HTTP/1.1\r\n\r\n", refusal::host_missing, 400},
        {"9112 3.2: missing, absolute-form", "GET http://a/ HTTP/1.1\r\n\r\n",
         refusal::host_missing, 400},
        {"9112 3.2: more than one", with_field("Host: a"), refusal::host_repeated, 400},
        {"9112 3.2: more than one", with_field("hOST: b"), refusal::host_repeated, 400},
        {"9112 3.2: more than one, in 1.0", "GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n",
         refusal::host_repeated, 400},
        {"9112 3.2: invalid", host("a b"), refusal::host_invalid, 400},
        {"9112 3.2: invalid", host("a,b"), refusal::host_invalid, 400},
        {"9112 3.2: invalid", host("a/b"), refusal::host_invalid, 400},
        {"9112 3.2: invalid", host("u@a"), refusal::host_invalid, 400},
        {"9112 3.2: invalid", host(":80"), refusal::host_invalid, 400},
        {"9112 3.2: invalid", host("a:b"), refusal::host_invalid, 400},
        {"9112 3.2: invalid", host("a:65536"), refusal::host_invalid, 400},
        {"9112 3.2: invalid", host("a:1:2"), refusal::host_invalid, 400},
        {"9112 3.2: invalid", host("[::1"), refusal::host_invalid, 400},
        {"9112 3.2: invalid", host("[::1]x"), refusal::host_invalid, 400},
        {"9112 3.2: invalid", host("[]"), refusal::host_invalid, 400},
        {"9112 3.2: invalid", host("http://a"), refusal::host_invalid, 400},
    });
    for (const char* good : {"a", " a ", "\ta\t", "", "a:", "a:80", "127.0.0.1:65535", "[::1]",
                             "[fe80::1]:8080", "a_b-c.d~!$&'()*+;="}) {
        CAPTURE(good);
        CHECK(parse(host(good)).state == parse_state::complete);
    }
    CHECK(parse("GET / HTTP/1.0\r\n\r\n").state == parse_state::complete);
}

TEST_CASE("framing that two readers could see differently is refused", "[httpd][request_parser]") {
    const std::string chunked = "\r\nTransfer-Encoding: chunked";
    check_refused({
        {"9112 6.3: both", with_field("Content-Length: 3" + chunked), refusal::length_and_coding,
         400},
        {"9112 6.3: both", with_field("Content-Length: 0" + chunked), refusal::length_and_coding,
         400},
        {"9112 6.3: two lengths", with_field("Content-Length: 3\r\nContent-Length: 4"),
         refusal::length_repeated, 400},
        {"stricter than 9112 6.3", with_field("Content-Length: 3\r\nContent-length: 3"),
         refusal::length_repeated, 400},
        {"stricter than 9112 6.3", with_field("Content-Length: 3, 3"), refusal::length_invalid,
         400},
        {"9110 8.6: digits", with_field("Content-Length: +3"), refusal::length_invalid, 400},
        {"9110 8.6: digits", with_field("Content-Length: -3"), refusal::length_invalid, 400},
        {"9110 8.6: digits", with_field("Content-Length: 0x3"), refusal::length_invalid, 400},
        {"9110 8.6: digits", with_field("Content-Length: 3 3"), refusal::length_invalid, 400},
        {"9110 8.6: digits", with_field("Content-Length:"), refusal::length_invalid, 400},
        {"9110 8.6: overflow", with_field("Content-Length: 9223372036854775808"),
         refusal::length_invalid, 400},
        {"9110 8.6: overflow", with_field("Content-Length: 18446744073709551619"),
         refusal::length_invalid, 400},
        {"9112 6.1: 1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
         refusal::coding_in_version_1_0, 400},
        {"9112 6.3: chunked last", with_field("Transfer-Encoding: gzip"),
         refusal::coding_not_chunked, 400},
        {"9112 6.3: chunked last", with_field("Transfer-Encoding: identity"),
         refusal::coding_not_chunked, 400},
        {"9112 6.3: chunked last", with_field("Transfer-Encoding: xchunked"),
         refusal::coding_not_chunked, 400},
        {"9112 6.3: chunked last", with_field("Transfer-Encoding: chunked, gzip"),
         refusal::coding_invalid, 400},
        {"9112 6.3: chunked last", with_field("Transfer-Encoding: chunked" + chunked),
         refusal::coding_invalid, 400},
        {"9112 7.1: no parameters", with_field("Transfer-Encoding: chunked;a=b"),
         refusal::coding_invalid, 400},
        {"9112 6.1: a token", with_field("Transfer-Encoding: \"chunked\""), refusal::coding_invalid,
         400},
        {"9112 6.1: a token", with_field("Transfer-Encoding: chun ked"), refusal::coding_invalid,
         400},
        {"9112 6.1: a token",
         with_field("Transfer-Encoding: \x0b"
                    "chunked"),
         refusal::control_character, 400},
        {"stricter than 9110 5.6.1", with_field("Transfer-Encoding: ,chunked"),
         refusal::coding_invalid, 400},
        {"stricter than 9110 5.6.1", with_field("Transfer-Encoding: chunked,"),
         refusal::coding_invalid, 400},
        {"9112 6.1", with_field("Transfer-Encoding:"), refusal::coding_invalid, 400},
        {"9112 6.1: not implemented", with_field("Transfer-Encoding: gzip, chunked"),
         refusal::coding_unknown, 501},
        {"9112 6.1: not implemented", with_field("Transfer-Encoding: gzip" + chunked),
         refusal::coding_unknown, 501},
    });
    CHECK(parse(with_field("Transfer-Encoding: chunked")).chunked);
    CHECK(parse(with_field("transfer-encoding:\tCHUNKED ")).chunked);
    CHECK(parse(with_field("Content-Length: 9223372036854775807")).content_length ==
          9223372036854775807U);
    CHECK(parse(with_field("content-length:007")).content_length == 7U);
}

TEST_CASE("a connection persists as the version and Connection say", "[httpd][request_parser]") {
    struct {
        const char* version;
        const char* field;
        bool keep_alive;
    } const cases[] = {
        {"1.1", "A: b", true},
        {"1.1", "Connection: close", false},
        {"1.1", "Connection: CLOSE", false},
        {"1.1", "Connection: a, ,close ,b", false},
        {"1.1", "Connection: keep-alive, close", false},  // RFC 9112 9.3: close first
        {"1.1", "Connection: x\r\nConnection: close", false},
        {"1.1", "Connection: closed", true},
        {"1.1", "Connection:", true},
        {"1.0", "A: b", false},
        {"1.0", "Connection: keep-alive", true},
        {"1.0", "Connection: Keep-Alive", true},
        {"1.0", "Connection: keep-alive, close", false},
        {"1.2", "A: b", true},  // RFC 9110 2.5: a higher minor version is our highest
        {"1.9", "Connection: close", false},
    };
    for (const auto& one : cases) {
        CAPTURE(one.version, one.field);
        const outcome seen =
            parse(bytes({"GET / HTTP/", one.version, "\r\nHost: a\r\n", one.field, "\r\n\r\n"}));
        REQUIRE(seen.state == parse_state::complete);
        CHECK(seen.keep_alive == one.keep_alive);
    }
}

TEST_CASE("Expect is 100-continue or cannot be met", "[httpd][request_parser]") {
    CHECK(parse(with_field("A: b")).expects == expectation::none);
    CHECK(parse(with_field("Expect: 100-continue")).expects == expectation::continue_100);
    CHECK(parse(with_field("expect: 100-Continue")).expects == expectation::continue_100);
    CHECK(parse(with_field("Expect: tea")).expects == expectation::unsupported);
    CHECK(parse(with_field("Expect: tea\r\nExpect: 100-continue")).expects ==
          expectation::unsupported);
    // RFC 9110 10.1.1: in HTTP/1.0 it is ignored.
    CHECK(parse("POST / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n").expects == expectation::none);
}

TEST_CASE("known fields are found in any case, others are passed over", "[httpd][request_parser]") {
    struct {
        const char* name;
        known_field field;
    } const cases[] = {
        {"Range", known_field::range},
        {"If-Match", known_field::if_match},
        {"If-None-Match", known_field::if_none_match},
        {"If-Modified-Since", known_field::if_modified_since},
        {"If-Unmodified-Since", known_field::if_unmodified_since},
        {"If-Range", known_field::if_range},
        {"Accept-Encoding", known_field::accept_encoding},
        {"User-Agent", known_field::user_agent},
        {"Referer", known_field::referer},
        {"Expect", known_field::expect},
        {"Connection", known_field::connection},
    };
    for (const auto& one : cases) {
        std::string lower = one.name;
        std::string upper = one.name;
        for (char& byte : lower) byte = static_cast<char>(byte >= 'A' ? byte | 0x20 : byte);
        for (char& byte : upper) byte = static_cast<char>(byte >= 'a' ? byte & ~0x20 : byte);
        for (const std::string& name : {std::string(one.name), lower, upper}) {
            CAPTURE(name);
            const std::string text = with_field(name + ": \t v w\t ");
            request_parser parser;
            REQUIRE(parser.parse(text) == parse_state::complete);
            CHECK(parser.head().has(one.field));
            CHECK(parser.head().single(one.field) == std::string_view("v w"));
        }
        // As long, and one letter off: another field.
        for (std::size_t at = 0; at < lower.size(); ++at) {
            std::string other = lower;
            other[at] = 'q';
            CAPTURE(other);
            const std::string text = with_field(other + ": v");
            request_parser parser;
            REQUIRE(parser.parse(text) == parse_state::complete);
            CHECK_FALSE(parser.head().has(one.field));
        }
    }
}

TEST_CASE("a list field may come in several lines, others may not", "[httpd][request_parser]") {
    const std::string text = with_field(
        "If-None-Match: \"a\"\r\nX: y\r\nIF-NONE-MATCH:  \"b\" \r\nif-none-match: \"c\"");
    request_parser parser;
    REQUIRE(parser.parse(text) == parse_state::complete);
    const request_head& head = parser.head();
    std::array<char, 13> scratch{};

    CHECK(head.list(known_field::if_none_match, scratch) ==
          std::string_view("\"a\", \"b\", \"c\""));
    CHECK_FALSE(head.list(known_field::if_none_match, std::span(scratch).first(12)));
    CHECK_FALSE(head.list(known_field::if_match, scratch));
    CHECK(head.repeated(known_field::if_none_match));
    CHECK_FALSE(head.single(known_field::if_none_match));
    CHECK(head.text(known_field::if_none_match) == "\"a\"");
}

TEST_CASE("a field value may hold tabs and bytes above ASCII", "[httpd][request_parser]") {
    const std::string text = with_field("Referer: a\t\xff\x80 \t\t\t\t\t\t\t\t\t\tz");
    CHECK(parse(text).state == parse_state::complete);
}

TEST_CASE("a request line is as long as its limit and no longer", "[httpd][request_parser]") {
    const head_limits limits{.request_line_bytes = 40, .field_bytes = 100, .field_count = 5};
    const auto state = [&](std::size_t line_bytes, std::string_view before) {
        request_parser parser(limits);
        const std::string path(line_bytes - std::string_view("GET / HTTP/1.1").size(), 'x');
        const std::string text = std::string(before) + with_line("GET /" + path + " HTTP/1.1");
        for (std::size_t end = 0; end <= text.size(); ++end) {
            parser.parse(std::string_view(text).substr(0, end));
        }
        request_parser at_once(limits);
        at_once.parse(text);
        CHECK(at_once.state() == parser.state());
        CHECK(at_once.why() == parser.why());
        return std::pair(parser.state(), parser.why());
    };

    CHECK(state(40, "") == std::pair(parse_state::complete, refusal::none));
    CHECK(state(40, "\r\n") == std::pair(parse_state::complete, refusal::none));
    CHECK(state(41, "") == std::pair(parse_state::refused, refusal::request_line_too_long));
    CHECK(state(41, "\r\n") == std::pair(parse_state::refused, refusal::request_line_too_long));
    CHECK(status_of(refusal::request_line_too_long) == 414);
}

TEST_CASE("field lines are as many and as large as their limits and no more",
          "[httpd][request_parser]") {
    const head_limits limits{.request_line_bytes = 40, .field_bytes = 100, .field_count = 5};
    const auto why = [&](const std::string& fields) {
        const std::string text = "GET / HTTP/1.1\r\n" + fields + "\r\n";
        request_parser parser(limits);
        for (std::size_t end = 0; end <= text.size(); ++end) {
            parser.parse(std::string_view(text).substr(0, end));
        }
        request_parser at_once(limits);
        at_once.parse(text);
        CHECK(at_once.state() == parser.state());
        CHECK(at_once.why() == parser.why());
        return parser.why();
    };
    const std::string host = "Host: a\r\n";
    const auto filled = [&](std::size_t size) {
        return host + "A:" + std::string(size - host.size() - 4, 'x') + "\r\n";
    };

    CHECK(why(filled(100)) == refusal::none);
    CHECK(why(filled(101)) == refusal::fields_too_large);
    CHECK(why(filled(102)) == refusal::fields_too_large);
    CHECK(why(filled(1000)) == refusal::fields_too_large);
    CHECK(why(host + "A:\r\nA:\r\nA:\r\nA:\r\n") == refusal::none);
    CHECK(why(host + "A:\r\nA:\r\nA:\r\nA:\r\nA:\r\n") == refusal::too_many_fields);
    CHECK(status_of(refusal::fields_too_large) == 431);
    CHECK(status_of(refusal::too_many_fields) == 431);
}

TEST_CASE("the largest head fits the offsets", "[httpd][request_parser]") {
    request_parser parser(
        {.request_line_bytes = ~std::size_t{0}, .field_bytes = ~std::size_t{0}, .field_count = 9});
    std::string text = "\r\nGET /" + std::string(request_line_bytes_max - 14, 'x') +
                       " HTTP/1.1\r\nHost: a\r\nReferer: ";
    const std::size_t left = field_bytes_max - 9 - 9 - 2;
    text += std::string(left, 'y') + "\r\n\r\n";

    REQUIRE(parser.parse(text) == parse_state::complete);

    CHECK(parser.head().size() == text.size());
    CHECK(text.size() == head_bytes_max);
    CHECK(text.size() == head_limits{}.head_bytes());
    CHECK(parser.head().text(known_field::referer).size() == left);
}

TEST_CASE("a refused request line is there for the log", "[httpd][request_parser]") {
    CHECK(parse(with_line("GET /a b HTTP/1.1")).request_line == "GET /a b HTTP/1.1");
    CHECK(parse("GET /\x01tail").request_line == "GET /");
    CHECK(parse(with_field("bad")).request_line == "GET / HTTP/1.1");
}
