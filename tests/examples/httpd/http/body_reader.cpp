#include "examples/httpd/http/body_reader.hpp"

#include "tests/support/catch.hpp"

#include <ostream>
#include <string>

#include "examples/httpd/http/request_parser.hpp"

using namespace httpd;

namespace {

struct outcome {
    body_state state;
    std::size_t taken;
    std::uint64_t data_bytes;

    bool operator==(const outcome&) const = default;
};

std::ostream& operator<<(std::ostream& out, const outcome& value) {
    return out << static_cast<int>(value.state) << " after " << value.taken << " with "
               << value.data_bytes;
}

constexpr std::uint64_t generous = 1'000'000;

outcome read_pieces(const request_head& head, std::uint64_t limit, std::string_view body,
                    std::size_t first, std::size_t each) {
    body_reader reader(head, limit);
    std::size_t taken = 0;
    std::size_t piece = first;
    while (reader.state() == body_state::incomplete && taken < body.size()) {
        const std::size_t got = reader.read(body.substr(taken, piece));
        taken += got;
        piece = each;
        if (got == 0) break;
    }
    return {reader.state(), taken, reader.data_bytes()};
}

// The outcome of `body`, which is the same however it is split.
outcome read(const std::string& framing, std::string_view body, std::uint64_t limit = generous) {
    const std::string text = "POST / HTTP/1.1\r\nHost: a\r\n" + framing + "\r\n";
    request_parser parser;
    REQUIRE(parser.parse(text) == parse_state::complete);
    const std::size_t all = body.size() + 1;
    const outcome whole = read_pieces(parser.head(), limit, body, all, all);
    CHECK(read_pieces(parser.head(), limit, body, 1, 1) == whole);
    for (std::size_t split = 1; split < body.size(); ++split) {
        const outcome in_two = read_pieces(parser.head(), limit, body, split, all);
        if (in_two != whole) {
            CAPTURE(split);
            CHECK(in_two == whole);
            break;
        }
    }
    return whole;
}

outcome read_chunked(std::string_view body, std::uint64_t limit = generous) {
    return read("Transfer-Encoding: chunked\r\n", body, limit);
}

outcome read_counted(const std::string& length, std::string_view body,
                     std::uint64_t limit = generous) {
    return read("Content-Length: " + length + "\r\n", body, limit);
}

}  // namespace

TEST_CASE("a request without framing has no body", "[httpd][body_reader]") {
    CHECK(read("", "GET /") == outcome{body_state::complete, 0, 0});
    CHECK(read_counted("0", "GET /") == outcome{body_state::complete, 0, 0});
}

TEST_CASE("a counted body ends after its length", "[httpd][body_reader]") {
    CHECK(read_counted("5", "12345GET /") == outcome{body_state::complete, 5, 5});
    CHECK(read_counted("5", "1234") == outcome{body_state::incomplete, 4, 4});
    CHECK(read_counted("5", "12345", 5) == outcome{body_state::complete, 5, 5});
    CHECK(read_counted("6", "12345", 5) == outcome{body_state::too_large, 0, 0});
    CHECK(read_counted("9223372036854775807", "1") == outcome{body_state::too_large, 0, 0});
}

TEST_CASE("a chunked body ends after its last chunk and trailer", "[httpd][body_reader]") {
    struct {
        const char* rule;
        std::string body;
        std::uint64_t data_bytes;
    } const cases[] = {
        {"9112 7.1", "0\r\n\r\n", 0},
        {"9112 7.1", "5\r\n12345\r\n0\r\n\r\n", 5},
        {"9112 7.1", "5\r\n12345\r\na\r\n1234567890\r\n0\r\n\r\n", 15},
        {"9112 7.1: either case", "A\r\n1234567890\r\n0\r\n\r\n", 10},
        {"9112 7.1: leading zeros", "00005\r\n12345\r\n000\r\n\r\n", 5},
        {"9112 7.1: any bytes", "4\r\n\r\n\r\n\r\n0\r\n\r\n", 4},
        {"9112 7.1.1: extensions", "1;a\r\nx\r\n0;b=c;d=\"e f\"\r\n\r\n", 1},
        {"9112 7.1.1: BWS", "1; a\t= \"b\" ;c\r\nx\r\n0;d =e\r\n\r\n", 1},
        {"9112 7.1.1: BWS after a size", "1 \t;a\r\nx\r\n0 ; b\r\n\r\n", 1},
        {"9112 7.1.1: quoted-pair", "1;a=\"b\\\"c;\\\\\"\r\nx\r\n0;a=\"\"\r\n\r\n", 1},
        {"9112 7.1.2: trailer", "0\r\nA: b\r\nC:\r\n\r\n", 0},
    };
    for (const auto& one : cases) {
        INFO(one.rule << ": " << one.body);
        CHECK(read_chunked(one.body) ==
              outcome{body_state::complete, one.body.size(), one.data_bytes});
        CHECK(read_chunked(one.body + "GET / HTTP/1.1\r\n") ==
              outcome{body_state::complete, one.body.size(), one.data_bytes});
        const std::string part = one.body.substr(0, one.body.size() - 1);
        CHECK(read_chunked(part) == outcome{body_state::incomplete, part.size(), one.data_bytes});
    }
}

TEST_CASE("bad chunking is malformed", "[httpd][body_reader]") {
    using namespace std::string_view_literals;
    struct {
        const char* rule;
        std::string_view body;
    } const cases[] = {
        {"9112 7.1: a size", "\r\n"sv},
        {"9112 7.1: a size", ";a\r\n"sv},
        {"9112 7.1: hexadecimal", "g\r\n"sv},
        {"9112 7.1: hexadecimal", "0x5\r\n12345\r\n"sv},
        {"9112 7.1: hexadecimal", "+5\r\n12345\r\n"sv},
        {"9112 7.1: hexadecimal", "-1\r\n"sv},
        {"9112 7.1: no blank", " 5\r\n12345\r\n"sv},
        {"9112 7.1: no blank", "5 \r\n12345\r\n"sv},
        {"9112 7.1.1: BWS before an extension only", "5 a\r\n12345\r\n"sv},
        {"9112 7.1: bare LF", "5\n12345\r\n0\r\n\r\n"sv},
        {"9112 7.1: bare LF", "5\r\n12345\n0\r\n\r\n"sv},
        {"9112 7.1: bare CR", "5\r12345\r\n"sv},
        {"9112 7.1: bare CR", "5\r\n12345\r0"sv},
        {"9112 7.1: the length", "5\r\n123456\r\n"sv},
        {"9112 7.1: the length", "5\r\n1234\r\n\r\n"sv},
        {"9112 7.1: overflow", "fffffffffffffffff\r\n"sv},
        {"9112 7.1: overflow", "10000000000000000\r\n"sv},
        {"9112 7.1: overflow", "8000000000000000\r\n"sv},
        {"9112 7.1.1: a name", "5;\r\n12345\r\n"sv},
        {"9112 7.1.1: a name after BWS", "5; \r\n12345\r\n"sv},
        {"9112 7.1.1: a name after each semicolon", "5;a;;b\r\n12345\r\n"sv},
        {"9112 7.1.1: the name is a token", "5;ba[d=x\r\n12345\r\n"sv},
        {"9112 7.1.1: one name", "5;a b\r\n12345\r\n"sv},
        {"9112 7.1.1: a value", "5;a=\r\n12345\r\n"sv},
        {"9112 7.1.1: a value before a semicolon", "5;a=;b\r\n12345\r\n"sv},
        {"9112 7.1.1: the value is a token", "5;a=b]\r\n12345\r\n"sv},
        {"9112 7.1.1: one value", "5;a=b=c\r\n12345\r\n"sv},
        {"9112 7.1.1: a closing quote", "5;a=\"b\r\n12345\r\n"sv},
        {"9112 7.1.1: nothing after a quote", "5;a=\"b\"c\r\n12345\r\n"sv},
        {"9112 7.1.1: no control character after a backslash", "5;a=\"\\\r\n\"\r\n12345\r\n"sv},
        {"9112 7.1.1: no blank before the line's end", "5;a \r\n12345\r\n"sv},
        {"9112 7.1.1: bare LF in an extension", "5;a\nb\r\n12345\r\n"sv},
        {"9112 7.1.1: NUL in an extension", "5;a\0b\r\n12345\r\n"sv},
        {"9112 7.1.2: bare LF", "0\r\n\n"sv},
        {"9112 7.1.2: bare LF", "0\n\r\n"sv},
        {"9112 7.1.2: bare LF in a trailer", "0\r\nA: b\n\r\n"sv},
        {"9112 7.1.2: no colon", "0\r\nabc\r\n\r\n"sv},
        {"9112 7.1.2: blank before the colon", "0\r\nabc : d\r\n\r\n"sv},
        {"9112 7.1.2: obs-fold", "0\r\nA: b\r\n c\r\n\r\n"sv},
        {"9112 7.1.2: NUL", "0\r\nA: \0\r\n\r\n"sv},
        {"9112 7.1.2: a name", "0\r\n: b\r\n\r\n"sv},
    };
    for (const auto& one : cases) {
        INFO(one.rule << ": " << one.body);
        CHECK(read_chunked(one.body).state == body_state::malformed);
    }
}

TEST_CASE("the limit is for all that is received", "[httpd][body_reader]") {
    const std::string body = "5\r\n12345\r\n0\r\n\r\n";
    CHECK(read_chunked(body, body.size()) == outcome{body_state::complete, body.size(), 5});
    for (std::uint64_t limit = 0; limit < body.size(); ++limit) {
        CAPTURE(limit);
        const outcome seen = read_chunked(body, limit);
        CHECK(seen.state == body_state::too_large);
        CHECK(seen.taken <= limit);
    }
    // A chunk that cannot fit is refused by its size, not after all its bytes.
    CHECK(read_chunked("ffffffffff\r\n" + std::string(100, 'x'), 50) ==
          outcome{body_state::too_large, 12, 0});
}

TEST_CASE("chunk lines and trailers have their limits", "[httpd][body_reader]") {
    const auto extended = [](std::size_t line_bytes) {  // its CR included
        return "1;" + std::string(line_bytes - 3, 'x') + "\r\ny\r\n0\r\n\r\n";
    };
    CHECK(read_chunked(extended(chunk_line_bytes_max)).state == body_state::complete);
    CHECK(read_chunked(extended(chunk_line_bytes_max + 1)).state == body_state::malformed);
    const auto with_trailer = [](std::size_t bytes) {  // without the LF
        return "0\r\nA:" + std::string(bytes - 3, 'x') + "\r\n\r\n";
    };
    CHECK(read_chunked(with_trailer(trailer_bytes_max)).state == body_state::complete);
    CHECK(read_chunked(with_trailer(trailer_bytes_max + 1)).state == body_state::malformed);
    std::string many = "0\r\n";
    while (many.size() < 2 * trailer_bytes_max) many += "A: b\r\n";
    CHECK(read_chunked(many).state == body_state::malformed);
}
