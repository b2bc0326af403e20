// directory_reader.hpp: the names in a folder, with what its page says of them.
#pragma once

#include "directory_listing.hpp"

#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/result.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/task.hpp>

#include <vector>

namespace httpd {

/// Reads the folder that `name`, below `root`, leads to. Left out are names that begin with a dot,
/// links that lead nowhere or out of the root, and what is neither a file nor a folder; and what is
/// beyond 20 000 entries.
///
/// io_uring has no request for this, so it is done in slices between which others have their turn.
///
/// Errors     Those of open(2).
/// Lifetime   `name` stays valid until the await ends.
kevring::task<kevring::result<std::vector<directory_entry>>> read_directory(kevring::ring& loop,
                                                                            kevring::fd_ref root,
                                                                            const char* name);

}  // namespace httpd
