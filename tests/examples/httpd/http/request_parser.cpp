#include "tests/examples/httpd/http/parser_test.hpp"

using namespace httpd;
using namespace httpd::testing;

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

TEST_CASE("bytes after a head are not read", "[httpd][request_parser]") {
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

TEST_CASE("control characters and other ends of lines are refused", "[httpd][request_parser]") {
    using namespace std::string_view_literals;
    check_refused({
        {"9112 2.2: bare LF", "GET / HTTP/1.1\nHost: a\n\n", parse_error::bare_line_feed, 400},
        {"9112 2.2: bare LF", "GET / HTTP/1.1\r\nHost: a\r\n\n", parse_error::bare_line_feed, 400},
        {"9112 2.2: bare LF", with_field("A: b\nC: d"), parse_error::bare_line_feed, 400},
        {"9112 2.2: bare LF", "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", parse_error::bare_line_feed,
         400},
        {"9112 2.2: bare CR", with_field("A: b\rC: d"), parse_error::bare_carriage_return, 400},
        {"9112 2.2: bare CR", with_line("GET /\r HTTP/1.1"), parse_error::bare_carriage_return,
         400},
        {"9112 2.2: bare CR", with_field("A: b\r\r\n"), parse_error::bare_carriage_return, 400},
        {"9110 5.5: NUL", bytes({"GET / HTTP/1.1\r\nHost: a\0"sv, "\r\n\r\n"sv}),
         parse_error::control_character, 400},
        {"9110 5.5: NUL in a name", bytes({"GET / HTTP/1.1\r\nHo\0st: a"sv, "\r\n\r\n"sv}),
         parse_error::control_character, 400},
        {"9112 3: NUL", bytes({"GET /\0 HTTP/1.1"sv, "\r\nHost: a\r\n\r\n"sv}),
         parse_error::control_character, 400},
        {"9110 5.5: DEL", with_field("A: b\x7f"), parse_error::control_character, 400},
        {"9110 5.5: ESC", with_field("A: \x1b[2J"), parse_error::control_character, 400},
        {"TLS to a plain port", bytes({"\x16\x03\x01\x02\x00\x01"sv}),
         parse_error::control_character, 400},
    });
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
        request_parser fast_path_result(limits);
        fast_path_result.parse(text);
        CHECK(fast_path_result.state() == parser.state());
        CHECK(fast_path_result.error() == parser.error());
        return std::pair(parser.state(), parser.error());
    };

    CHECK(state(40, "") == std::pair(parse_state::complete, parse_error::none));
    CHECK(state(40, "\r\n") == std::pair(parse_state::complete, parse_error::none));
    CHECK(state(41, "") == std::pair(parse_state::refused, parse_error::request_line_too_long));
    CHECK(state(41, "\r\n") == std::pair(parse_state::refused, parse_error::request_line_too_long));
    CHECK(status_of(parse_error::request_line_too_long) == 414);
}

TEST_CASE("field lines are as many and as large as their limits and no more",
          "[httpd][request_parser]") {
    const head_limits limits{.request_line_bytes = 40, .field_bytes = 100, .field_count = 5};
    const auto error = [&](const std::string& fields) {
        const std::string text = "GET / HTTP/1.1\r\n" + fields + "\r\n";
        request_parser parser(limits);
        for (std::size_t end = 0; end <= text.size(); ++end) {
            parser.parse(std::string_view(text).substr(0, end));
        }
        request_parser fast_path_result(limits);
        fast_path_result.parse(text);
        CHECK(fast_path_result.state() == parser.state());
        CHECK(fast_path_result.error() == parser.error());
        return parser.error();
    };
    const std::string host = "Host: a\r\n";
    const auto filled = [&](std::size_t size) {
        return host + "A:" + std::string(size - host.size() - 4, 'x') + "\r\n";
    };

    CHECK(error(filled(100)) == parse_error::none);
    CHECK(error(filled(101)) == parse_error::fields_too_large);
    CHECK(error(filled(102)) == parse_error::fields_too_large);
    CHECK(error(filled(1000)) == parse_error::fields_too_large);
    CHECK(error(host + "A:\r\nA:\r\nA:\r\nA:\r\n") == parse_error::none);
    CHECK(error(host + "A:\r\nA:\r\nA:\r\nA:\r\nA:\r\n") == parse_error::too_many_fields);
    CHECK(status_of(parse_error::fields_too_large) == 431);
    CHECK(status_of(parse_error::too_many_fields) == 431);
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
