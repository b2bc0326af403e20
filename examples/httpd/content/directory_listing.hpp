// directory_listing.hpp: the entries of a directory, as a page for people and as JSON.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace httpd {

struct directory_entry {
    std::string name;
    bool directory = false;
    std::uint64_t byte_count = 0;
    std::int64_t modified_second = 0;
};

/// The entries that are shown, in order, and the number of all.
struct directory_contents {
    std::vector<directory_entry> entries;
    std::uint64_t total_count = 0;
    bool counted_all = true;  // false: there are more than `total_count`
};

/// The order of a page: directories first, then by name without regard to case.
bool is_listed_before(const directory_entry& one, const directory_entry& other) noexcept;

/// A name that a request can ask for, and that is not "." or "..".
bool is_servable(std::string_view name) noexcept;

/// A page that needs no other file. `name` is that of the directory, as target_name has it: "." for
/// the root. A click on a column's head sorts by it, in the same order. Its links are relative.
///
/// No name can end a tag, an attribute or a path's segment.
std::string render_directory_listing(std::string_view name, const directory_contents& contents);

/// The same as JSON: {"path", "total", "shown", "entries": [{"name", "href", "type", "size",
/// "modified"}]}, with "note": "first N of M" if not all are shown. In a name that is not UTF-8
/// each wrong byte is U+FFFD; "href" is exact.
std::string render_directory_json(std::string_view name, const directory_contents& contents);

/// "1.5 MiB"; the unit is such that the number is below 1024, with three digits or more where it
/// is not in bytes.
std::string size_text(std::uint64_t byte_count);

}  // namespace httpd
