#include "tests/examples/httpd/http/parser_test.hpp"

using namespace httpd;
using namespace httpd::testing;

TEST_CASE("a malformed field line is refused", "[httpd][request_parser]") {
    check_refused({
        {"9112 5.1: blank before the colon", with_field("A : b"), parse_error::bad_field_line, 400},
        {"9112 5.1: blank before the colon", with_field("A\t: b"), parse_error::bad_field_line,
         400},
        {"9112 5.1: blank before Host's colon", "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
         parse_error::bad_field_line, 400},
        {"9112 5: a colon", with_field("A"), parse_error::bad_field_line, 400},
        {"9112 5: a name", with_field(": b"), parse_error::bad_field_line, 400},
        {"9110 5.1: a token", with_field("A b: c"), parse_error::bad_field_line, 400},
        {"9110 5.1: a token", with_field("A(b): c"), parse_error::bad_field_line, 400},
        {"9110 5.1: a token", with_field("\xc3\xa4: c"), parse_error::bad_field_line, 400},
        {"9112 5.2: obs-fold", with_field("A: b\r\n c"), parse_error::folded_line, 400},
        {"9112 5.2: obs-fold", with_field("A: b\r\n\tc"), parse_error::folded_line, 400},
        {"9112 2.2: blank behind the request line", "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
         parse_error::folded_line, 400},
        {"9112 2.2: a line of blanks", with_field(" "), parse_error::folded_line, 400},
    });
}

TEST_CASE("Host is there exactly once and is a host", "[httpd][request_parser]") {
    const auto host = [](std::string_view value) {
        return "GET / HTTP/1.1\r\nHost:" + std::string(value) + "\r\n\r\n";
    };
    check_refused({
        {"9112 3.2: missing", "GET / HTTP/1.1\r\n\r\n", parse_error::host_missing, 400},
        {"9112 3.2: missing, absolute-form", "GET http://a/ HTTP/1.1\r\n\r\n",
         parse_error::host_missing, 400},
        {"9112 3.2: more than one", with_field("Host: a"), parse_error::host_repeated, 400},
        {"9112 3.2: more than one", with_field("hOST: b"), parse_error::host_repeated, 400},
        {"9112 3.2: more than one, in 1.0", "GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n",
         parse_error::host_repeated, 400},
        {"9112 3.2, 9110 4.2.1: empty", host(""), parse_error::host_empty, 400},
        {"9112 3.2: empty, of blanks", host(" \t"), parse_error::host_empty, 400},
        {"9112 3.2: none, with an absolute target", "GET http://a/ HTTP/1.1\r\n\r\n",
         parse_error::host_missing, 400},
        {"9112 3.2: invalid", host("a b"), parse_error::host_invalid, 400},
        {"9112 3.2: invalid", host("a,b"), parse_error::host_invalid, 400},
        {"9112 3.2: invalid", host("a/b"), parse_error::host_invalid, 400},
        {"9112 3.2: invalid", host("u@a"), parse_error::host_invalid, 400},
        {"9112 3.2: invalid", host(":80"), parse_error::host_invalid, 400},
        {"9112 3.2: invalid", host("a:b"), parse_error::host_invalid, 400},
        {"9112 3.2: invalid", host("a:65536"), parse_error::host_invalid, 400},
        {"9112 3.2: invalid", host("a:1:2"), parse_error::host_invalid, 400},
        {"9112 3.2: invalid", host("[::1"), parse_error::host_invalid, 400},
        {"9112 3.2: invalid", host("[::1]x"), parse_error::host_invalid, 400},
        {"9112 3.2: invalid", host("[]"), parse_error::host_invalid, 400},
        {"9112 3.2: invalid", host("http://a"), parse_error::host_invalid, 400},
    });
    for (const char* good : {"a", " a ", "\ta\t", "a:", "a:80", "127.0.0.1:65535", "[::1]",
                             "[fe80::1]:8080", "a_b-c.d~!$&'()*+;="}) {
        CAPTURE(good);
        CHECK(parse(host(good)).state == parse_state::complete);
    }
    CHECK(parse("GET / HTTP/1.0\r\n\r\n").state == parse_state::complete);
    // HTTP/1.0 knows no Host; an absolute target names the host, and Host is ignored.
    for (const char* good :
         {"GET / HTTP/1.0\r\nHost:\r\n\r\n", "GET http://a/ HTTP/1.1\r\nHost:\r\n\r\n",
          "GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n"}) {
        CAPTURE(good);
        CHECK(parse(good).state == parse_state::complete);
    }
}

TEST_CASE("framing that two readers could see differently is refused", "[httpd][request_parser]") {
    const std::string chunked = "\r\nTransfer-Encoding: chunked";
    check_refused({
        {"9112 6.3: both", with_field("Content-Length: 3" + chunked),
         parse_error::length_and_coding, 400},
        {"9112 6.3: both", with_field("Content-Length: 0" + chunked),
         parse_error::length_and_coding, 400},
        {"9112 6.3: two lengths", with_field("Content-Length: 3\r\nContent-Length: 4"),
         parse_error::length_repeated, 400},
        {"stricter than 9112 6.3", with_field("Content-Length: 3\r\nContent-length: 3"),
         parse_error::length_repeated, 400},
        {"stricter than 9112 6.3", with_field("Content-Length: 3, 3"), parse_error::length_invalid,
         400},
        {"9110 8.6: digits", with_field("Content-Length: +3"), parse_error::length_invalid, 400},
        {"9110 8.6: digits", with_field("Content-Length: -3"), parse_error::length_invalid, 400},
        {"9110 8.6: digits", with_field("Content-Length: 0x3"), parse_error::length_invalid, 400},
        {"9110 8.6: digits", with_field("Content-Length: 3 3"), parse_error::length_invalid, 400},
        {"9110 8.6: digits", with_field("Content-Length:"), parse_error::length_invalid, 400},
        {"9110 8.6: overflow", with_field("Content-Length: 9223372036854775808"),
         parse_error::length_invalid, 400},
        {"9110 8.6: overflow", with_field("Content-Length: 18446744073709551619"),
         parse_error::length_invalid, 400},
        {"9112 6.1: 1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
         parse_error::coding_in_version_1_0, 400},
        {"9112 6.3: chunked last", with_field("Transfer-Encoding: gzip"),
         parse_error::coding_not_chunked, 400},
        {"9112 6.3: chunked last", with_field("Transfer-Encoding: identity"),
         parse_error::coding_not_chunked, 400},
        {"9112 6.3: chunked last", with_field("Transfer-Encoding: xchunked"),
         parse_error::coding_not_chunked, 400},
        {"9112 6.3: chunked last", with_field("Transfer-Encoding: chunked, gzip"),
         parse_error::coding_invalid, 400},
        {"9112 6.3: chunked last", with_field("Transfer-Encoding: chunked" + chunked),
         parse_error::coding_invalid, 400},
        {"9112 7.1: no parameters", with_field("Transfer-Encoding: chunked;a=b"),
         parse_error::coding_invalid, 400},
        {"9112 6.1: a token", with_field("Transfer-Encoding: \"chunked\""),
         parse_error::coding_invalid, 400},
        {"9112 6.1: a token", with_field("Transfer-Encoding: chun ked"),
         parse_error::coding_invalid, 400},
        {"9112 6.1: a token",
         with_field("Transfer-Encoding: \x0b"
                    "chunked"),
         parse_error::control_character, 400},
        {"stricter than 9110 5.6.1", with_field("Transfer-Encoding: ,chunked"),
         parse_error::coding_invalid, 400},
        {"stricter than 9110 5.6.1", with_field("Transfer-Encoding: chunked,"),
         parse_error::coding_invalid, 400},
        {"9112 6.1", with_field("Transfer-Encoding:"), parse_error::coding_invalid, 400},
        {"9112 6.1: not implemented", with_field("Transfer-Encoding: gzip, chunked"),
         parse_error::coding_unknown, 501},
        {"9112 6.1: not implemented", with_field("Transfer-Encoding: gzip" + chunked),
         parse_error::coding_unknown, 501},
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

TEST_CASE("known fields are found in any case, others are ignored", "[httpd][request_parser]") {
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
        for (std::size_t i = 0; i < lower.size(); ++i) {
            std::string other = lower;
            other[i] = 'q';
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
