// directory_reader.hpp: the entries of a directory.
#pragma once

#include "directory_listing.hpp"

#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/result.hpp>

#include <cstddef>
#include <functional>
#include <string>

namespace httpd {

struct directory_options {
    std::size_t entry_count_max = 100'000;
    bool hidden_files = false;
};

/// Reads the directory that `name`, below `root`, leads to: the first `entry_count_max` entries in
/// the order of is_listed_before(), and the number of all. Left out are links that lead nowhere or
/// out of the root, entries that are neither files nor directories, names that no request can ask
/// for and, by default, names that begin with a dot.
///
/// It blocks. Memory is that of twice `entry_count_max` entries, however many there are; counting
/// ends after 10 million entries.
///
/// Errors     Those of open(2); operation_canceled once `stopped` returns true.
/// Thread     Any that may block.
kevring::result<directory_contents> read_directory(kevring::fd_ref root, const std::string& name,
                                                   const directory_options& options,
                                                   const std::function<bool()>& stopped);

}  // namespace httpd
