// directory_listing.hpp: what is in a folder, as a page for people.
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

/// A page that needs nothing but itself. `name` is that of the folder, as target_name has it: "."
/// for the root. Folders come first, then by name; a click on a column's head sorts by it. Its
/// links are relative. Names that read_target() would refuse are left out.
///
/// Safe for any names: none can end a tag, an attribute or a path's segment.
std::string render_directory_listing(std::string_view name, std::vector<directory_entry> entries);

/// "1.5 MiB"; the unit is such that the number is below 1024, with three digits at least where it
/// is not in bytes.
std::string size_text(std::uint64_t byte_count);

}  // namespace httpd
