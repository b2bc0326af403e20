#include "directory_listing.hpp"

#include <algorithm>
#include <array>
#include <cstdio>

#include "examples/httpd/http/characters.hpp"
#include "examples/httpd/http/http_date.hpp"

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
  --link: #0b63c5; --hover: #f0f6fd; --folder: #e0a526; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #dde4ea; --soft: #8d99a5; --line: #2b343d; --paper: #1a2129; --back: #12171c;
    --link: #72b4ff; --hover: #212b36; --folder: #d7a83d; } }
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
svg { width: 1.1em; height: 1.1em; vertical-align: -.18em; margin-right: .6em; fill: none;
  stroke: var(--soft); stroke-width: 1.6; }
tr.d svg { fill: var(--folder); stroke: var(--folder); }
p { color: var(--soft); font-size: .85rem; margin: .8rem 1rem; }
@media (max-width: 34rem) { td:nth-child(3), th:nth-child(3) { display: none; } }
</style>
<svg width="0" height="0" style="position:absolute" aria-hidden="true">
<symbol id="d" viewBox="0 0 20 20"><path d="M2 5h6l2 2h8v9H2z"/></symbol>
<symbol id="f" viewBox="0 0 20 20"><path d="M5 2h6l4 4v12H5zM11 2v4h4"/></symbol>
</svg>
<main>
<h1>)";

constexpr std::string_view table_begin = R"(</h1>
<table>
<thead><tr><th aria-sort="ascending"><button>Name</button></th><th><button>Size</button></th>)"
                                         R"(<th><button>Modified (UTC)</button></th></tr></thead>
<tbody>
)";

// Each cell carries what it is sorted by; folders stay before files.
constexpr std::string_view page_end = R"(</main>
<script>
const heads = [...document.querySelectorAll("th")], body = document.querySelector("tbody");
heads.forEach((head, column) => head.firstChild.onclick = () => {
  const up = head.getAttribute("aria-sort") !== "ascending";
  heads.forEach(other => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  const key = row => row.cells[column].dataset.key ?? row.cells[column].textContent;
  const compare = new Intl.Collator(undefined, { numeric: true }).compare;
  body.append(...[...body.rows].sort((a, b) => (b.className === "d") - (a.className === "d")
    || (up ? 1 : -1) * compare(key(a), key(b))));
});
</script>
)";

void add_escaped(std::string& page, std::string_view text) {
    for (const char byte : text) {
        switch (byte) {
            case '&': page += "&amp;"; break;
            case '<': page += "&lt;"; break;
            case '>': page += "&gt;"; break;
            case '"': page += "&quot;"; break;
            case '\'': page += "&#39;"; break;
            default: page += byte;
        }
    }
}

// Unreserved characters as they are (RFC 3986 2.3): what is left can stand in any attribute.
void add_encoded(std::string& page, std::string_view segment) {
    constexpr std::string_view digits = "0123456789ABCDEF";
    for (const char byte : segment) {
        const auto value = static_cast<unsigned char>(byte);
        const bool unreserved = is(byte, token_character) && is(byte, host_character) &&
                                std::string_view("!$&'*+").find(byte) == std::string_view::npos;
        if (unreserved) {
            page += byte;
        } else {
            page.append({'%', digits[value / 16], digits[value % 16]});
        }
    }
}

bool is_servable(std::string_view name) {
    return !name.empty() && name != "." && name != ".." && name.find('/') == name.npos &&
           all_are(name, field_character) && name.find('\t') == name.npos;
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

// The folders on the way, each a link back to it.
void add_way(std::string& page, std::string_view name) {
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
    page += entry.directory ? "<tr class=\"d\"><td data-key=\"" : "<tr><td data-key=\"";
    add_escaped(page, entry.name);
    page += entry.directory ? "\"><svg><use href=\"#d\"/></svg><a href=\"./"
                            : "\"><svg><use href=\"#f\"/></svg><a href=\"./";
    add_encoded(page, entry.name);
    page += entry.directory ? "/\">" : "\">";
    add_escaped(page, entry.name);
    page += entry.directory ? "/</a></td><td data-key=\"" : "</a></td><td data-key=\"";
    page += entry.directory ? "0" : std::to_string(entry.byte_count);
    page += "\">";
    if (!entry.directory) page += size_text(entry.byte_count);
    page += "</td><td data-key=\"" + std::to_string(entry.modified_second) + "\">";
    page += time_text(entry.modified_second) + "</td></tr>\n";
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

std::string render_directory_listing(std::string_view name, std::vector<directory_entry> entries) {
    std::erase_if(entries, [](const directory_entry& entry) { return !is_servable(entry.name); });
    const auto before = [](const directory_entry& left, const directory_entry& right) {
        if (left.directory != right.directory) return left.directory;
        const auto lower = [](const directory_entry& entry) {
            std::string text = entry.name;
            std::ranges::transform(text, text.begin(), lower_case);
            return text;
        };
        const int order = lower(left).compare(lower(right));
        return order != 0 ? order < 0 : left.name < right.name;
    };
    std::ranges::sort(entries, before);

    std::string page;
    page.reserve(page_begin.size() + page_style.size() + page_end.size() + 256 * entries.size());
    page += page_begin;
    page += "/";
    if (name != ".") {
        add_escaped(page, name);
        page += '/';
    }
    page += page_style;
    add_way(page, name);
    page += table_begin;
    std::uint64_t byte_count = 0;
    std::size_t file_count = 0;
    for (const directory_entry& entry : entries) {
        add_row(page, entry);
        if (entry.directory) continue;
        byte_count += entry.byte_count;
        ++file_count;
    }
    page += "</tbody>\n</table>\n<p>";
    const auto add_count = [&page](std::size_t count, const char* one, const char* many) {
        page += std::to_string(count) + " " + (count == 1 ? one : many);
    };
    add_count(entries.size() - file_count, "directory, ", "directories, ");
    add_count(file_count, "file, ", "files, ");
    page += size_text(byte_count) + "</p>\n";
    page += page_end;
    return page;
}

}  // namespace httpd
