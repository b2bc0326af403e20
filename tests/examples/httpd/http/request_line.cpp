#include "tests/examples/httpd/http/parser_test.hpp"

using namespace httpd;
using namespace httpd::testing;

TEST_CASE("methods are tokens, case-sensitive, and unknown ones are distinguished",
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
        {"9112 3: three parts", with_line("GET"), parse_error::bad_request_line, 400},
        {"9112 3: three parts, no HTTP/0.9", with_line("GET /"), parse_error::bad_request_line,
         400},
        {"9112 3: three parts", with_line("GET HTTP/1.1"), parse_error::bad_request_line, 400},
        {"9112 3: three parts", with_line("HTTP/1.1"), parse_error::bad_method, 400},
        {"9112 3: three parts", with_line(" HTTP/1.1"), parse_error::bad_method, 400},
        {"9112 3: single spaces", with_line("GET  HTTP/1.1"), parse_error::bad_target, 400},
        {"9112 3: single spaces", with_line("GET  / HTTP/1.1"), parse_error::bad_target, 400},
        {"9112 3: single spaces", with_line("GET /  HTTP/1.1"), parse_error::bad_target, 400},
        {"9112 3: nothing behind", with_line("GET / HTTP/1.1 "), parse_error::bad_version, 400},
        {"9112 3: nothing before", with_line(" GET / HTTP/1.1"), parse_error::bad_method, 400},
        {"9112 3: no tab", with_line("GET\t/ HTTP/1.1"), parse_error::bad_method, 400},
        {"9112 3: no tab", with_line("GET /\tHTTP/1.1"), parse_error::bad_request_line, 400},
        {"9112 3.1: a token", with_line("G(T / HTTP/1.1"), parse_error::bad_method, 400},
        {"9112 3.1: a token", with_line("G\xc3\x89T / HTTP/1.1"), parse_error::bad_method, 400},
        {"9112 3.2: no space", with_line("GET /a b HTTP/1.1"), parse_error::bad_target, 400},
        {"9112 3.2: no fragment", with_line("GET /a#b HTTP/1.1"), parse_error::bad_target, 400},
        {"9112 3.2: no fragment", with_line("GET /a?b#c HTTP/1.1"), parse_error::bad_target, 400},
        {"3986: ASCII", with_line("GET /\xc3\xa4 HTTP/1.1"), parse_error::bad_target, 400},
        {"9112 3.2.1: begins with a slash", with_line("GET a HTTP/1.1"), parse_error::bad_target,
         400},
        {"9112 3.2.1: query alone", with_line("GET ?a HTTP/1.1"), parse_error::bad_target, 400},
        {"9112 3.2.2: a host", with_line("GET http:///a HTTP/1.1"), parse_error::bad_target, 400},
        {"9112 3.2.2: http", with_line("GET ftp://a/ HTTP/1.1"), parse_error::bad_target, 400},
        {"9110 4.2.4: no user", with_line("GET http://u@a/ HTTP/1.1"), parse_error::bad_target,
         400},
        {"9112 3.2.2: a port", with_line("GET http://a:99999/ HTTP/1.1"), parse_error::bad_target,
         400},
        {"9112 3.2.3: a port", with_line("CONNECT a HTTP/1.1"), parse_error::bad_target, 400},
        {"9112 3.2.3: a port", with_line("CONNECT a: HTTP/1.1"), parse_error::bad_target, 400},
        {"9112 3.2.3: a port", with_line("CONNECT [::1] HTTP/1.1"), parse_error::bad_target, 400},
        {"9112 3.2.3: a host", with_line("CONNECT :443 HTTP/1.1"), parse_error::bad_target, 400},
        {"9112 3.2.3: no path", with_line("CONNECT /a HTTP/1.1"), parse_error::bad_target, 400},
        {"9112 3.2.4: OPTIONS only", with_line("GET * HTTP/1.1"), parse_error::bad_target, 400},
        {"9112 2.3: name", with_line("GET / HTTQ/1.1"), parse_error::bad_version, 400},
        {"9112 2.3: case", with_line("GET / http/1.1"), parse_error::bad_version, 400},
        {"9112 2.3: digits", with_line("GET / HTTP/1.x"), parse_error::bad_version, 400},
        {"9112 2.3: one digit", with_line("GET / HTTP/1.10"), parse_error::bad_version, 400},
        {"9112 2.3: one digit", with_line("GET / HTTP/1"), parse_error::bad_version, 400},
        {"9112 2.3: a dot", with_line("GET / HTTP/1-1"), parse_error::bad_version, 400},
        {"9112 2.3: digits", with_line("GET / HTTP/x.1"), parse_error::bad_version, 400},
        {"9110 15.6.6", with_line("GET / HTTP/2.0"), parse_error::version_not_supported, 505},
        {"9113 3.4", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", parse_error::version_not_supported, 505},
        {"9112 2.2: one empty line only", "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
         parse_error::bad_request_line, 400},
    });
}
