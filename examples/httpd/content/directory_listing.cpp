#include "directory_listing.hpp"

#include <algorithm>
#include <array>
#include <compare>
#include <cstdio>

#include "examples/httpd/http/characters.hpp"
#include "examples/httpd/http/http_date.hpp"
#include "examples/httpd/http/target.hpp"

namespace httpd {
namespace {

constexpr std::string_view page_begin = R"(<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>)";

constexpr std::string_view page_style = R"(</title>
<style>
:root { --ink: #1c2733; --soft: #66727f; --line: #e3e8ed; --paper: #fff; --back: #f4f6f8;
  --link: #0b63c5; --hover: #f0f6fd; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #dde4ea; --soft: #8d99a5; --line: #2b343d; --paper: #1a2129; --back: #12171c;
    --link: #72b4ff; --hover: #212b36; } }
* { box-sizing: border-box; }
body { margin: 0; padding: 2rem 1rem; background: var(--back); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 60rem; margin: auto; }
h1 { font-size: 1.25rem; font-weight: 600; margin: 0 0 1rem; overflow-wrap: anywhere; }
h1 i { color: var(--soft); font-style: normal; font-weight: 400; padding: 0 .3em; }
a { color: var(--link); text-decoration: none; }
a:hover, a:focus-visible { text-decoration: underline; }
table { width: 100%; border-spacing: 0; background: var(--paper); border: 1px solid var(--line);
  border-radius: 10px; overflow: hidden; }
th, td { text-align: left; padding: .5rem 1rem; border-bottom: 1px solid var(--line); }
tbody tr:last-child td { border-bottom: 0; }
tbody tr:hover { background: var(--hover); }
th { font-weight: 400; padding: 0; }
th button { all: unset; display: block; width: 100%; padding: .5rem 1rem; font-size: .85rem;
  color: var(--soft); cursor: pointer; box-sizing: border-box; }
th button:focus-visible { outline: 2px solid var(--link); outline-offset: -3px; border-radius: 9px; }
th[aria-sort] button { color: var(--ink); font-weight: 600; }
th[aria-sort=ascending] button::after { content: " \2191"; }
th[aria-sort=descending] button::after { content: " \2193"; }
td:first-child { overflow-wrap: anywhere; width: 100%; padding-left: 2.7rem;
  text-indent: -1.7rem; }
td + td { white-space: nowrap; color: var(--soft); font-variant-numeric: tabular-nums; }
td:nth-child(2), th:nth-child(2) button { text-align: right; }
td:first-child::before { content: ""; display: inline-block; width: 1.1em; height: 1.1em;
  vertical-align: -.18em; margin-right: .6em; background: center / contain no-repeat
  url("data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 20 20'%3E%3Cpath d='M5 2h6l4 4v12H5zM11 2v4h4' fill='none' stroke='%23808b96' stroke-width='1.6'/%3E%3C/svg%3E"); }
tr.d td:first-child::before, tr.u td:first-child::before { background-image:
  url("data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 20 20'%3E%3Cpath d='M2 5h6l2 2h8v9H2z' fill='%23e0a526'/%3E%3C/svg%3E"); }
p { color: var(--soft); font-size: .85rem; margin: .8rem 1rem; }
@media (max-width: 34rem) { td:nth-child(3), th:nth-child(3) { display: none; } }
</style>
<main>
<h1>)";

constexpr std::string_view table_begin = R"(</h1>
<table>
<thead><tr><th aria-sort="ascending"><button>Name</button></th><th><button>Size</button></th>)"
                                         R"(<th><button>Modified (UTC)</button></th></tr></thead>
<tbody>
)";

// The server's order is that of the names; sizes and times sort by data-key, then in that order.
// The row of the parent directory stays first, and directories stay before files.
constexpr std::string_view page_end = R"(</main>
<script>
const heads = [...document.querySelectorAll("th")], body = document.querySelector("tbody");
[...body.rows].forEach((row, index) => row.order = index);
heads.forEach((head, column) => head.firstChild.onclick = () => {
  const up = head.getAttribute("aria-sort") !== "ascending";
  heads.forEach(other => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  const rank = row => row.className === "u" ? 0 : row.className === "d" ? 1 : 2;
  const key = row => column === 0 ? row.order : Number(row.cells[column].dataset.key);
  body.append(...[...body.rows].sort((a, b) => rank(a) - rank(b)
    || (up ? 1 : -1) * (key(a) - key(b) || a.order - b.order)));
});
</script>
)";

// The bytes of the UTF-8 sequence that `text` begins with; 0 if it begins with none (RFC 3629).
std::size_t utf8_bytes(std::string_view text) noexcept {
    const auto byte = [&](std::size_t i) -> unsigned {
        return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U;
    };
    const auto follows = [&](std::size_t i) { return (byte(i) & 0xc0) == 0x80; };
    const unsigned first = byte(0);
    if (first < 0x80) return 1;
    if (first >= 0xc2 && first <= 0xdf) return follows(1) ? 2 : 0;
    if (first >= 0xe0 && first <= 0xef) {
        const bool overlong = first == 0xe0 && byte(1) < 0xa0;
        const bool surrogate = first == 0xed && byte(1) > 0x9f;
        return follows(1) && follows(2) && !overlong && !surrogate ? 3 : 0;
    }
    if (first >= 0xf0 && first <= 0xf4) {
        const bool overlong = first == 0xf0 && byte(1) < 0x90;
        const bool too_large = first == 0xf4 && byte(1) > 0x8f;
        return follows(1) && follows(2) && follows(3) && !overlong && !too_large ? 4 : 0;
    }
    return 0;
}

void add_escaped(std::string& page, std::string_view text) {
    while (!text.empty()) {
        const std::size_t bytes = utf8_bytes(text);
        switch (text.front()) {
            case '&': page += "&amp;"; break;
            case '<': page += "&lt;"; break;
            case '>': page += "&gt;"; break;
            case '"': page += "&quot;"; break;
            case '\'': page += "&#39;"; break;
            default: page += bytes == 0 ? std::string_view("\xef\xbf\xbd") : text.substr(0, bytes);
        }
        text.remove_prefix(std::max<std::size_t>(1, bytes));
    }
}

// "2024-11-06 08:49"
std::string time_text(std::int64_t unix_second) {
    std::array<char, http_date_bytes> date{};
    write_http_date(unix_second, date);  // "Sun, 06 Nov 1994 08:49:37 GMT"
    const std::string_view text(date.data(), date.size());
    constexpr std::string_view months = "JanFebMarAprMayJunJulAugSepOctNovDec";
    const std::size_t month = months.find(text.substr(8, 3)) / 3 + 1;
    std::string made(text.substr(12, 4));
    made += month < 10 ? "-0" : "-";
    made += std::to_string(month);
    made += '-';
    made += text.substr(5, 2);
    made += ' ';
    made += text.substr(17, 5);
    return made;
}

// The path of the directory; each directory above is a link.
void add_path(std::string& page, std::string_view name) {
    if (name == ".") {
        page += "/";
        return;
    }
    auto left = static_cast<std::size_t>(std::ranges::count(name, '/')) + 1;
    const auto up = [](std::size_t count) {
        std::string link;
        while (count-- > 0) link += "../";
        return link;
    };
    page += "<a href=\"" + up(left) + "\">/</a>";
    while (true) {
        const std::size_t slash = name.find('/');
        const std::string_view segment = name.substr(0, slash);
        --left;
        if (left == 0) {
            add_escaped(page, segment);
            return;
        }
        page += "<a href=\"" + up(left) + "\">";
        add_escaped(page, segment);
        page += "</a><i>/</i>";
        name.remove_prefix(slash + 1);
    }
}

void add_row(std::string& page, const directory_entry& entry) {
    page += entry.directory ? "<tr class=d><td><a href=\"./" : "<tr><td><a href=\"./";
    append_encoded(page, entry.name);
    page += entry.directory ? "/\">" : "\">";
    add_escaped(page, entry.name);
    page += entry.directory ? "/</a><td data-key=0>" : "</a><td data-key=";
    if (!entry.directory)
        page.append(std::to_string(entry.byte_count))
            .append(">")
            .append(size_text(entry.byte_count));
    page.append("<td data-key=").append(std::to_string(entry.modified_second)).append(">");
    page.append(time_text(entry.modified_second)).append("\n");
}

// "first 2 of 3", or "first 2 of more than 3"; empty if all entries are shown.
std::string cut_text(const directory_contents& contents) {
    if (contents.counted_all && contents.total_count == contents.entries.size()) return {};
    return "first " + std::to_string(contents.entries.size()) +
           (contents.counted_all ? " of " : " of more than ") +
           std::to_string(contents.total_count);
}

void add_json_string(std::string& page, std::string_view text) {
    page += '"';
    while (!text.empty()) {
        const std::size_t bytes = utf8_bytes(text);
        const char first = text.front();
        if (bytes == 0)
            page += "\\ufffd";
        else if (first == '"' || first == '\\')
            page.append("\\").append(1, first);
        else
            page += text.substr(0, bytes);  // control characters are not servable
        text.remove_prefix(std::max<std::size_t>(1, bytes));
    }
    page += '"';
}

void add_json_entry(std::string& page, const directory_entry& entry) {
    page += "{\"name\":";
    add_json_string(page, entry.name);
    page += ",\"href\":\"./";
    append_encoded(page, entry.name);
    page += entry.directory ? "/\",\"type\":\"directory\"" : "\",\"type\":\"file\",\"size\":";
    if (!entry.directory) page += std::to_string(entry.byte_count);
    const std::string time = time_text(entry.modified_second);  // "2024-11-06 08:49"
    const auto second = static_cast<int>(((entry.modified_second % 60) + 60) % 60);
    page.append(",\"modified\":\"").append(time, 0, 10).append("T").append(time, 11);
    page.append(second < 10 ? ":0" : ":").append(std::to_string(second)).append("Z\"}");
}

}  // namespace

std::string size_text(std::uint64_t byte_count) {
    if (byte_count < 1024) return std::to_string(byte_count) + " B";
    constexpr std::array units{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    std::size_t unit = 0;
    auto size = static_cast<double>(byte_count) / 1024;
    // Not 1024: what would be rounded to it takes the next unit.
    while (size >= 1023.5 && unit + 1 < units.size()) {
        size /= 1024;
        ++unit;
    }
    std::array<char, 32> text{};
    const int digits = size < 9.995 ? 2 : size < 99.95 ? 1 : 0;
    const int bytes = std::snprintf(text.data(), text.size(), "%.*f %s", digits, size, units[unit]);
    return {text.data(), static_cast<std::size_t>(bytes)};
}

bool is_servable(std::string_view name) noexcept {
    return !name.empty() && name != "." && name != ".." && name.find('/') == name.npos &&
           all_are(name, field_character) && name.find('\t') == name.npos;
}

bool is_listed_before(const directory_entry& one, const directory_entry& other) noexcept {
    if (one.directory != other.directory) return one.directory;
    const auto order = std::lexicographical_compare_three_way(
        one.name.begin(), one.name.end(), other.name.begin(), other.name.end(),
        [](char left, char right) {
            return static_cast<unsigned char>(lower_case(left)) <=>
                   static_cast<unsigned char>(lower_case(right));
        });
    return order != 0 ? order < 0 : one.name < other.name;
}

std::string render_directory_listing(std::string_view name, const directory_contents& contents) {
    std::string page;
    page.reserve(page_begin.size() + page_style.size() + page_end.size() +
                 160 * contents.entries.size());
    page += page_begin;
    page += "/";
    if (name != ".") {
        add_escaped(page, name);
        page += '/';
    }
    page += page_style;
    add_path(page, name);
    page += table_begin;
    if (name != ".") page += "<tr class=u><td><a href=\"../\">..</a><td><td>\n";
    std::uint64_t byte_count = 0;
    std::size_t file_count = 0;
    for (const directory_entry& entry : contents.entries) {
        add_row(page, entry);
        if (entry.directory) continue;
        byte_count += entry.byte_count;
        ++file_count;
    }
    page += "</tbody>\n</table>\n<p>";
    const auto add_count = [&page](std::size_t count, const char* one, const char* many) {
        page += std::to_string(count) + " " + (count == 1 ? one : many);
    };
    if (const std::string cut = cut_text(contents); !cut.empty()) page += cut + " entries: ";
    add_count(contents.entries.size() - file_count, "directory, ", "directories, ");
    add_count(file_count, "file, ", "files, ");
    page += size_text(byte_count) + "</p>\n";
    page += page_end;
    return page;
}

std::string render_directory_json(std::string_view name, const directory_contents& contents) {
    std::string page;
    page.reserve(100 + 120 * contents.entries.size());
    page += "{\"path\":";
    add_json_string(page, name == "." ? std::string("/") : '/' + std::string(name) + '/');
    page += ",\"total\":" + std::to_string(contents.total_count);
    page += ",\"shown\":" + std::to_string(contents.entries.size());
    if (const std::string cut = cut_text(contents); !cut.empty())
        page.append(",\"note\":\"").append(cut).append("\"");
    page += ",\"entries\":[";
    for (std::size_t i = 0; i < contents.entries.size(); ++i) {
        page += i == 0 ? "\n" : ",\n";
        add_json_entry(page, contents.entries[i]);
    }
    page += "\n]}\n";
    return page;
}

}  // namespace httpd
