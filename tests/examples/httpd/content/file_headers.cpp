#include "examples/httpd/content/file_headers.hpp"
#include "tests/support/catch.hpp"

#include <utility>

using httpd::content_coding;
using httpd::file_headers;

TEST_CASE("a file's lines are those of a 200, and parts of them those of others",
          "[httpd][file_headers]") {
    file_headers::about page;
    page.media_type = "text/html";
    page.byte_count = 1024;
    page.modified_second = 784'111'777;
    page.entity_tag = "\"400-1\"";
    const file_headers made(page);
    CHECK(made.whole() ==
          "Content-Type: text/html\r\n"
          "Content-Length: 1024\r\n"
          "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
          "ETag: \"400-1\"\r\n"
          "Accept-Ranges: bytes\r\n");
    CHECK(made.content() == "Content-Type: text/html\r\n");
    CHECK(made.validators() ==
          "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
          "ETag: \"400-1\"\r\n");
    CHECK(made.entity_tag() == "\"400-1\"");
}

TEST_CASE("a compressed sibling says what it is, and that there are others",
          "[httpd][file_headers]") {
    file_headers::about sibling;
    sibling.media_type = "text/css";
    sibling.coding = content_coding::br;
    sibling.byte_count = 5;
    sibling.modified_second = 0;
    sibling.entity_tag = "W/\"5-2\"";
    sibling.varies = true;
    file_headers made(sibling);
    const file_headers moved = std::move(made);
    CHECK(moved.whole() ==
          "Content-Type: text/css\r\n"
          "Content-Encoding: br\r\n"
          "Content-Length: 5\r\n"
          "Last-Modified: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
          "ETag: W/\"5-2\"\r\n"
          "Vary: Accept-Encoding\r\n"
          "Accept-Ranges: bytes\r\n");
    CHECK(moved.content() == "Content-Type: text/css\r\nContent-Encoding: br\r\n");
    CHECK(moved.validators() ==
          "Last-Modified: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
          "ETag: W/\"5-2\"\r\n"
          "Vary: Accept-Encoding\r\n");
    CHECK(moved.entity_tag() == "W/\"5-2\"");
}

TEST_CASE("a file without date and tag has no lines for them", "[httpd][file_headers]") {
    file_headers::about young;
    young.media_type = "text/css";
    young.byte_count = 5;
    young.lines = "Cache-Control: no-cache\r\n";
    const file_headers made(young);
    CHECK(made.whole() ==
          "Content-Type: text/css\r\n"
          "Content-Length: 5\r\n"
          "Cache-Control: no-cache\r\n"
          "Accept-Ranges: bytes\r\n");
    CHECK(made.validators() == "Cache-Control: no-cache\r\n");
    CHECK(made.entity_tag().empty());
}
