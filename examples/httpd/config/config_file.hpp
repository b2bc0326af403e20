// config_file.hpp: the lines of a configuration file: names, values and sections.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace httpd {

/// `name = value`, or `name = ["one", "other"]`.
struct config_entry {
    std::size_t line = 0;  // counted from 1
    std::string name;
    std::vector<std::string> values;
    bool is_list = false;
};

/// The entries after one `[host NAME...]` line; the first section has no names.
struct config_section {
    std::size_t line = 0;
    std::vector<std::string> words;  // "host", and the names
    std::vector<config_entry> entries;
};

/// Splits the text of a file. '#' begins a comment outside of quotes. A list may go over several
/// lines. Names and values are not checked here.
///
/// Errors     Throws option_error: "PATH:LINE: REASON".
std::vector<config_section> split_config(const std::string& text, const std::string& path);

/// Reads a file of at most 1 MiB.
///
/// Errors     Throws value_error.
std::string read_text_file(const std::string& path);

/// The same for the file of --config.
///
/// Errors     Throws option_error: "--config PATH: REASON".
std::string read_config_file(const std::string& path);

}  // namespace httpd
