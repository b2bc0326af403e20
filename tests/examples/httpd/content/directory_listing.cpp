#include "examples/httpd/content/directory_listing.hpp"

#include "tests/support/catch.hpp"

#include <algorithm>
#include <array>
#include <string>
#include <utility>
#include <vector>

#include "examples/httpd/http/target.hpp"

using namespace httpd;

namespace {

std::size_t count_of(std::string_view text, std::string_view part) {
    std::size_t count = 0;
    for (auto found = text.find(part); found != text.npos; found = text.find(part, found + 1))
        ++count;
    return count;
}

// The target of the only link to an entry.
std::string link_of(const std::string& page) {
    const std::size_t first = page.find("<a href=\"./") + 9;
    return page.substr(first, page.find('"', first) - first);
}

// All entries of a directory, in order.
directory_contents all(std::vector<directory_entry> entries) {
    std::ranges::sort(entries, is_listed_before);
    const std::uint64_t count = entries.size();
    return {.entries = std::move(entries), .total_count = count};
}

}  // namespace

TEST_CASE("directories come first, then files, by name", "[httpd][directory_listing]") {
    const std::string page =
        render_directory_listing(".", all({{.name = "b.txt", .byte_count = 2048},
                                           {.name = "Z", .directory = true},
                                           {.name = "a", .directory = true},
                                           {.name = "A.txt", .byte_count = 1}}));

    const auto place = [&page](std::string_view link) { return page.find(link); };
    CHECK(place("href=\"./a/\"") < place("href=\"./Z/\""));
    CHECK(place("href=\"./Z/\"") < place("href=\"./A.txt\""));
    CHECK(place("href=\"./A.txt\"") < place("href=\"./b.txt\""));
    CHECK(place("href=\"./b.txt\"") != page.npos);
    CHECK_THAT(page, ContainsSubstring("2 directories, 2 files, 2.00 KiB"));
    CHECK_THAT(page, ContainsSubstring("<title>/</title>"));
}

TEST_CASE("each directory on the way is a link", "[httpd][directory_listing]") {
    const std::string page = render_directory_listing("a/b<c/d", {});

    CHECK_THAT(page, ContainsSubstring("<title>/a/b&lt;c/d/</title>"));
    CHECK_THAT(page, ContainsSubstring("<a href=\"../../../\">/</a><a href=\"../../\">a</a>"
                                       "<i>/</i><a href=\"../\">b&lt;c</a><i>/</i>d</h1>"));
    CHECK_THAT(page, ContainsSubstring("0 directories, 0 files, 0 B"));
}

TEST_CASE("a link leads to the file, whatever its name", "[httpd][directory_listing]") {
    for (const std::string name : {"a b", "a%41", "%2e%2e", "a?b#c", "a:b", "\"><script>",
                                   "\xc3\xa4", "\xff", "a&amp;b", "'", "+", "~a", "..."}) {
        CAPTURE(name);
        const std::string page = render_directory_listing(".", all({{.name = name}}));
        const std::string link = link_of(page);
        std::array<char, 100> room{};
        const target_name target = parse_target(link.substr(1), room);
        CHECK(static_cast<bool>(target));
        CHECK(target.name == name);
    }
}

TEST_CASE("no name can write into the page", "[httpd][directory_listing]") {
    const std::size_t scripts = count_of(render_directory_listing(".", {}), "<script>");
    const std::string page =
        render_directory_listing("<script>", all({{.name = "<script>alert(1)<"},
                                                  {.name = "\" onclick=\"x"},
                                                  {.name = "' onclick='x"},
                                                  {.name = "<td>"}}));

    CHECK(count_of(page, "<script>") == scripts);
    CHECK(count_of(page, "\" onclick") == 0);
    CHECK(count_of(page, "' onclick") == 0);
    CHECK(count_of(page, "<td") == 5 * 3);  // with that of the parent
}

TEST_CASE("a name that is no UTF-8 leaves the page valid", "[httpd][directory_listing]") {
    // A byte that begins nothing, a surrogate, and a sequence without its end.
    const std::string page = render_directory_listing("\xff", all({{.name = "a\xff"
                                                                            "b"},
                                                                   {.name = "\xed\xa0\x80"},
                                                                   {.name = "\xe2\x82"},
                                                                   {.name = "\xe2\x82\xac"}}));

    CHECK(count_of(page,
                   "a\xef\xbf\xbd"
                   "b</a>") == 1);
    CHECK(count_of(page, ">\xe2\x82\xac</a>") == 1);
    for (const char* bytes : {"\xff", "\xed", "\x80", "\xe2\x82<"})
        CHECK(count_of(page, bytes) == 0);
}

TEST_CASE("names that cannot be asked for are not servable", "[httpd][directory_listing]") {
    for (const char* name : {".", "..", "", "a\nb", "a\tb", "a/b", "a\x7f"}) {
        CAPTURE(name);
        CHECK_FALSE(is_servable(name));
    }
    for (const char* name : {"good", "...", ".profile", "\xff"}) CHECK(is_servable(name));
}

TEST_CASE("a page of a part says how much it shows", "[httpd][directory_listing]") {
    directory_contents part = all({{.name = "a"}, {.name = "b"}});
    CHECK_THAT(render_directory_listing(".", part), !ContainsSubstring("<p>first"));
    part.total_count = 7;
    CHECK_THAT(render_directory_listing(".", part), ContainsSubstring("first 2 of 7 entries"));
    CHECK_THAT(render_directory_json(".", part), ContainsSubstring("\"note\":\"first 2 of 7\""));
    part.counted_all = false;
    CHECK_THAT(render_directory_listing(".", part),
               ContainsSubstring("first 2 of more than 7 entries"));
}

TEST_CASE("a page has a row for the parent, but for that of the root",
          "[httpd][directory_listing]") {
    constexpr const char* row = "<a href=\"../\">..</a>";
    CHECK_THAT(render_directory_listing("a", {}), ContainsSubstring(row));
    CHECK_THAT(render_directory_listing(".", {}), !ContainsSubstring(row));
}

TEST_CASE("JSON has names, links, types, sizes and times", "[httpd][directory_listing]") {
    const std::string text = render_directory_json(
        "a", all({{.name = "q\"\\", .byte_count = 5, .modified_second = 784'111'777},
                  {.name = "\xff"
                           "\xc3\xa4",
                   .directory = true}}));
    CHECK(text ==
          "{\"path\":\"/a/\",\"total\":2,\"shown\":2,\"entries\":[\n"
          "{\"name\":\"\\ufffd\xc3\xa4\",\"href\":\"./%FF%C3%A4/\",\"type\":\"directory\","
          "\"modified\":\"1970-01-01T00:00:00Z\"},\n"
          "{\"name\":\"q\\\"\\\\\",\"href\":\"./q%22%5C\",\"type\":\"file\",\"size\":5,"
          "\"modified\":\"1994-11-06T08:49:37Z\"}\n]}\n");
}

TEST_CASE("times are to the minute, and sizes have three digits", "[httpd][directory_listing]") {
    const std::string page = render_directory_listing(
        ".", all({{.name = "x", .byte_count = 5, .modified_second = 784'111'777}}));
    CHECK_THAT(page,
               ContainsSubstring("<td data-key=5>5 B<td data-key=784111777>1994-11-06 08:49"));

    struct {
        std::uint64_t byte_count;
        const char* text;
    } const cases[] = {
        {0, "0 B"},
        {1023, "1023 B"},
        {1024, "1.00 KiB"},
        {1536, "1.50 KiB"},
        {10'240, "10.0 KiB"},
        {102'400, "100 KiB"},
        {1'048'575, "1.00 MiB"},
        {1'048'576, "1.00 MiB"},
        {5ULL << 30, "5.00 GiB"},
        {~0ULL, "16.0 EiB"},
    };
    for (const auto& one : cases) {
        CAPTURE(one.byte_count);
        CHECK(size_text(one.byte_count) == one.text);
    }
}
