#include "examples/httpd/http/target.hpp"

#include "tests/support/catch.hpp"

#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

using namespace httpd;

namespace {

struct read_name {
    target_error error;
    bool directory;
    bool hidden;
    std::string name;
};

// In a buffer that is as large as it says it must be, on the heap so that a sanitizer sees its end.
read_name read(std::string_view path) {
    std::vector<char> buffer(path.size() + 1, 'x');
    const target_name got = parse_target(path, buffer);
    if (got) {
        REQUIRE(got.name.data() + got.name.size() < buffer.data() + buffer.size());
        CHECK(std::strlen(got.name.data()) == got.name.size());
    }
    return {got.error, got.directory, got.hidden, std::string(got.name)};
}

}  // namespace

TEST_CASE("a path becomes a name below the root", "[httpd][target]") {
    struct {
        const char* path;
        const char* name;
        bool directory;
    } const cases[] = {
        {"/", ".", true},
        {"/a", "a", false},
        {"/a/", "a", true},
        {"/a/b.html", "a/b.html", false},
        {"/a/b/", "a/b", true},
        {"//", ".", true},
        {"//a///b", "a/b", false},
        {"/a//", "a", true},
        // RFC 3986 5.2.4
        {"/.", ".", true},
        {"/./a", "a", false},
        {"/a/.", "a", true},
        {"/a/./b", "a/b", false},
        {"/a/..", ".", true},
        {"/a/../b", "b", false},
        {"/a/b/..", "a", true},
        {"/a/b/../..", ".", true},
        {"/a/b/../../c/", "c", true},
        {"/a/b/c/./../../g", "a/g", false},
        {"/a//../b", "b", false},
        {"/a/...", "a/...", false},
        {"/..a/b..", "..a/b..", false},
        // RFC 3986 6.2.2: an encoded dot is a dot.
        {"/a/%2e%2E/b", "b", false},
        {"/a/.%2e/b", "b", false},
        {"/%2e/a", "a", false},
        // Decoded once: what comes out is not looked at again.
        {"/%252e%252e/a", "%2e%2e/a", false},
        {"/%2541", "%41", false},
        {"/a%20b", "a b", false},
        {"/a+b", "a+b", false},
        {"/%C3%A4", "\xc3\xa4", false},
        {"/%ff", "\xff", false},
        {"/a%5Cb", "a\\b", false},
        {"/a%3Fb%23c", "a?b#c", false},
    };
    for (const auto& one : cases) {
        CAPTURE(one.path);
        const read_name got = read(one.path);
        CHECK(got.error == target_error::none);
        CHECK(got.name == one.name);
        CHECK(got.directory == one.directory);
    }
}

TEST_CASE("a path that means harm, or means nothing, is refused", "[httpd][target]") {
    struct {
        const char* path;
        target_error error;
    } const cases[] = {
        {"/..", target_error::above_root},
        {"/../a", target_error::above_root},
        {"/a/../..", target_error::above_root},
        {"/a/../../a", target_error::above_root},
        {"/./../a", target_error::above_root},
        {"//../a", target_error::above_root},
        {"/%2e%2e/a", target_error::above_root},
        {"/a/%2e%2e/%2e%2e/b", target_error::above_root},
        {"/a%2fb", target_error::encoded_slash},
        {"/..%2Fa", target_error::encoded_slash},
        {"/%2F", target_error::encoded_slash},
        {"/a%00.html", target_error::control_character},
        {"/%0d%0aSet-Cookie", target_error::control_character},
        {"/%09", target_error::control_character},
        {"/%1b", target_error::control_character},
        {"/%7f", target_error::control_character},
        {"/%", target_error::bad_encoding},
        {"/%4", target_error::bad_encoding},
        {"/%4g", target_error::bad_encoding},
        {"/%g4", target_error::bad_encoding},
        {"/%%41", target_error::bad_encoding},
        {"/%u0041", target_error::bad_encoding},
    };
    for (const auto& one : cases) {
        CAPTURE(one.path);
        CHECK(read(one.path).error == one.error);
        CHECK(status_of(one.error) == 400);
    }
}

TEST_CASE("names with a leading dot are marked", "[httpd][target]") {
    for (const char* path : {"/.git", "/.git/config", "/a/.htaccess", "/%2egit", "/a/../.b/c",
                             "/.well-knownx", "/a/.well-known", "/.well-known/.x", "/..."}) {
        CAPTURE(path);
        CHECK(read(path).hidden);
    }
    for (const char* path :
         {"/", "/.", "/a.b", "/.well-known", "/.well-known/x", "/a/./b", "/a."}) {
        CAPTURE(path);
        CHECK_FALSE(read(path).hidden);
    }
}

TEST_CASE("a name that the buffer cannot hold is too long", "[httpd][target]") {
    std::vector<char> four(4);
    CHECK(parse_target("/abc", four).error == target_error::too_long);  // and its slash
    CHECK(parse_target("/ab", four).name == "ab");
    CHECK(parse_target("/abcd", four).error == target_error::too_long);
    CHECK(parse_target("/a/bcdef", four).error == target_error::too_long);
    CHECK(parse_target("/", std::span(four).first(2)).name == ".");
    CHECK(parse_target("/", std::span(four).first(1)).error == target_error::too_long);
    CHECK(status_of(target_error::too_long) == 414);
}
