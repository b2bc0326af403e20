#include "examples/httpd/http/media_type.hpp"

#include "tests/support/catch.hpp"

using namespace httpd;

TEST_CASE("the extension of a name tells its type", "[httpd][media_type]") {
    CHECK(built_in_media_type("index.html") == "text/html; charset=utf-8");
    CHECK(built_in_media_type("a/b.c/d.PNG") == "image/png");
    CHECK(built_in_media_type("x.tar.gz") == "application/gzip");
    CHECK(built_in_media_type("x.js") == "text/javascript; charset=utf-8");
    CHECK(built_in_media_type("x.svg") == "image/svg+xml");
    CHECK(built_in_media_type("x.zst") == "application/zstd");
    CHECK(built_in_media_type("x.7z") == "application/x-7z-compressed");
    CHECK(built_in_media_type("README") == unknown_media_type);
    CHECK(built_in_media_type("a.html/b") == unknown_media_type);
    CHECK(built_in_media_type(".html") == unknown_media_type);
    CHECK(built_in_media_type("x.") == unknown_media_type);
    CHECK(built_in_media_type("") == unknown_media_type);
    CHECK(built_in_media_type("x." + std::string(1000, 'h')) == unknown_media_type);
}

TEST_CASE("a mime.types file goes before the table", "[httpd][media_type]") {
    media_types types;

    const std::size_t count = types.load(
        "# a comment\n"
        "application/x-one\t\t\tone ONCE  # the first\r\n"
        "text/x-two two\n"
        "application/x-none\n"
        "no-type html\n"
        "/html html\n"
        "image/x-own png\n"
        "\n"
        "text/x-last last");

    CHECK(count == 5);
    CHECK(types.find("a.one") == "application/x-one");
    CHECK(types.find("a.OnCe") == "application/x-one");
    CHECK(types.find("a.two") == "text/x-two; charset=utf-8");
    CHECK(types.find("a.last") == "text/x-last; charset=utf-8");
    CHECK(types.find("a.png") == "image/x-own");
    CHECK(types.find("a.html") == "text/html; charset=utf-8");
    CHECK(types.find("a.nothing") == unknown_media_type);
    CHECK(types.find("a") == unknown_media_type);
}

TEST_CASE("the later of two lines for an extension counts", "[httpd][media_type]") {
    media_types types;
    types.load("a/one x\na/two x\n");
    CHECK(types.find("a.x") == "a/two");
    types.load("a/three x\n");
    CHECK(types.find("a.x") == "a/three");
}
