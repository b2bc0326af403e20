// tree_walk.hpp: every file below a directory, in batches.
#pragma once

#include <kevring/runtime/directory_entry.hpp>
#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/result.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/task.hpp>

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kevring {

/// Decides which directories a walk enters.
class walk_filter {
public:
    virtual ~walk_filter() = default;
    /// False: the entries of this directory are left out.
    ///
    /// Thread     One of the pool, while the walk's coroutine waits.
    virtual bool enters(const walk_entry& directory) noexcept = 0;
};

struct walk_options {
    /// Directories at this depth are reported and not entered.
    std::size_t depth_max = 4096;
    /// Directories that are open at a time; at least 2. Of those above, the walk keeps the names of
    /// the entries that it has not reported, and not the descriptor.
    std::size_t descriptor_count_max = 32;
    /// Entries of one batch; at least 1.
    std::size_t batch_entry_count = 512;
    walk_filter* filter = nullptr;  // outlives the walk
};

/// The files below a directory, each directory before its entries; the order of the entries is that of
/// the file system. The walk follows no symbolic link, and no path of more than one name: a directory
/// that another process replaces by a link is reported with an error and not entered.
///
/// Lifetime   Outlives every await on it; within the life of its ring.
/// Thread     The ring's own.
/// In flight  One next() or next_batch() at a time.
/// Kernel     getdents64(2) and openat(2) on a thread of the shared thread_pool, one job per batch: the
///            ring has no request that lists a directory.
class tree_walk {
public:
    /// Walks `path` below `directory`, which stays open until the first await has completed.
    tree_walk(ring& loop, fd_ref directory, std::string_view path,
              const walk_options& options = {});
    tree_walk(tree_walk&& other) noexcept;
    tree_walk& operator=(tree_walk&& other) noexcept;
    ~tree_walk();

    /// The next entries; none after the last one.
    ///
    /// Errors     operation_canceled, timed_out, and the walk may continue; not_a_directory for a root
    ///            that is a file or a symbolic link; ESTALE where a directory above the open ones was
    ///            moved; resource_unavailable_try_again for a pool without room; otherwise as for
    ///            openat(2) of the root. The errors of other directories are in their entries.
    task<result<std::vector<walk_entry>>> next_batch();
    /// The next entry, or none after the last one; errors as of next_batch().
    task<result<std::optional<walk_entry>>> next();

private:
    class state;
    std::unique_ptr<state> state_;
};

}  // namespace kevring
