#include "examples/httpd/http/response_head.hpp"

#include "tests/support/catch.hpp"

#include <array>
#include <string>
#include <vector>

using namespace httpd;

TEST_CASE("a head is written line by line", "[httpd][response_head]") {
    std::array<char, 512> buffer{};

    const std::string_view head = response_head(buffer, 206)
                                      .lines("Server: x\r\nA: b\r\n")
                                      .field("Content-Type", "text/plain")
                                      .field("Content-Length", 18446744073709551615U)
                                      .content_range(5, 10, 100)
                                      .connection(false, 1)
                                      .finish();

    CHECK(head ==
          "HTTP/1.1 206 Partial Content\r\nServer: x\r\nA: b\r\nContent-Type: text/plain\r\n"
          "Content-Length: 18446744073709551615\r\nContent-Range: bytes 5-14/100\r\n"
          "Connection: close\r\n\r\n");
    CHECK(head.data() == buffer.data());
    CHECK(response_head(buffer, 416).content_range(7).finish() ==
          "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */7\r\n\r\n");
}

TEST_CASE("Connection is said where the version does not imply it", "[httpd][response_head]") {
    std::array<char, 512> buffer{};
    const auto head = [&](bool keep_alive, unsigned minor_version) {
        return std::string(
            response_head(buffer, 200).connection(keep_alive, minor_version).finish());
    };

    CHECK(head(true, 1) == "HTTP/1.1 200 OK\r\n\r\n");
    CHECK(head(false, 1) == "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
    CHECK(head(true, 0) == "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\n");
    CHECK(head(false, 0) == "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
}

TEST_CASE("a head that does not fit is none, whatever the room", "[httpd][response_head]") {
    const auto write = [](std::span<char> room) {
        return response_head(room, 200)
            .field("Content-Length", 12345)
            .content_range(1, 2, 3)
            .field("ETag", "\"x\"")
            .finish();
    };
    std::vector<char> large(1000);
    const std::string whole(write(large));
    for (std::size_t room = 0; room < whole.size(); ++room) {
        std::vector<char> buffer(room);  // of its own, so that a sanitizer sees its end
        CHECK(write(buffer).empty());
    }
    std::vector<char> buffer(whole.size());
    CHECK(write(buffer) == whole);
}

TEST_CASE("a value cannot begin a line of its own", "[httpd][response_head]") {
    std::array<char, 512> buffer{};
    for (const std::string_view value :
         {std::string_view("/a\r\nSet-Cookie: b"), std::string_view("a\nb"),
          std::string_view("a\rb"), std::string_view("a\0b", 3)}) {
        response_head head(buffer, 301);
        head.field("Location", value).field("A", "b");
        CHECK_FALSE(head.ok());
        CHECK(head.finish().empty());
        CHECK_FALSE(is_field("Location", value));
    }
    CHECK(is_field("X-A", "b \xff\t c"));
    CHECK(is_field("X-A", ""));
    CHECK_FALSE(is_field("X-A", " b"));
    CHECK_FALSE(is_field("X-A", "b "));
    CHECK_FALSE(is_field("X A", "b"));
    CHECK_FALSE(is_field("X-A:", "b"));
    CHECK_FALSE(is_field("", "b"));
}

TEST_CASE("each status has its line, and those unknown become 500", "[httpd][status]") {
    CHECK(status_line(200) == "HTTP/1.1 200 OK\r\n");
    CHECK(status_line(431) == "HTTP/1.1 431 Request Header Fields Too Large\r\n");
    CHECK(reason_of(404) == "Not Found");
    for (const unsigned status : {0U, 99U, 299U, 500U, 512U, 4000000000U}) {
        CHECK(status_line(status) == "HTTP/1.1 500 Internal Server Error\r\n");
    }
}

TEST_CASE("a short response says its status, and no more to HEAD", "[httpd][response_head]") {
    std::array<char, short_response_bytes> buffer{};
    const std::string body =
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n"
        "<meta name=\"viewport\" content=\"width=device-width\">\n<title>404 Not Found</title>\n"
        "<style>:root{color-scheme:light dark}"
        "body{font:15px/1.5 system-ui,sans-serif;margin:20vh auto;max-width:40rem;padding:0 1rem;"
        "background:light-dark(#f4f6f8,#12171c);color:light-dark(#1c2733,#dde4ea)}"
        "h1{font-size:1.25rem;font-weight:600}</style>\n<h1>404 Not Found</h1>\n";
    const std::string head =
        "HTTP/1.1 404 Not Found\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nA: b\r\n"
        "Content-Type: text/html; charset=utf-8\r\nContent-Length: " +
        std::to_string(body.size()) + "\r\nConnection: close\r\n\r\n";
    short_response response{
        .status = 404, .date = "Thu, 01 Jan 1970 00:00:00 GMT", .lines = "A: b\r\n"};

    CHECK(write_short_response(buffer, response) == head + body);
    response.head_only = true;
    CHECK(write_short_response(buffer, response) == head);
    CHECK(write_short_response(std::span(buffer).first(head.size()), response) == head);
    CHECK(write_short_response(std::span(buffer).first(head.size() - 1), response).empty());
    response.head_only = false;
    CHECK(write_short_response(std::span(buffer).first(head.size() + body.size() - 1), response)
              .empty());
}

TEST_CASE("a page of one's own takes the place of ours", "[httpd][response_head]") {
    std::array<char, 512> buffer{};
    const short_response response{
        .status = 503, .keep_alive = true, .body = "later\n", .media_type = "text/plain"};
    CHECK(write_short_response(buffer, response) ==
          "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nContent-Length: 6\r\n"
          "\r\nlater\n");
}

TEST_CASE("204 and 304 have neither body nor length", "[httpd][response_head]") {
    std::array<char, 512> buffer{};
    for (const unsigned status : {204U, 304U}) {
        const short_response response{.status = status, .keep_alive = true, .body = "x"};
        CHECK(write_short_response(buffer, response) == std::string(status_line(status)) + "\r\n");
    }
}

TEST_CASE("the room that is promised is enough for each status", "[httpd][response_head]") {
    std::array<char, short_response_bytes> buffer{};
    for (unsigned status = 100; status < 600; ++status) {
        const short_response response{
            .status = status, .date = "Thu, 01 Jan 1970 00:00:00 GMT", .minor_version = 0};
        CHECK_FALSE(write_short_response(buffer, response).empty());
    }
}
