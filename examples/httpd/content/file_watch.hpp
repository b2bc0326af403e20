// file_watch.hpp: watches of the directories that contain cached files.
//
// The kernel queues an event before the call that made the change returns. So a client that asks
// after a change has been made is answered after the event was queued, and it is enough to poll the
// events once in each loop iteration, before its first request is answered.
#pragma once

#include "document_root.hpp"

#include <kevring/kevent/event_queue.hpp>
#include <kevring/runtime/fd.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

namespace httpd {

class file_cache;

/// Thread     That of its loop.
class file_watch {
public:
    /// Without a kevent queue, as when descriptors have run out, nothing is covered.
    explicit file_watch(kevring::fd_ref root);

    /// Watches every folder on the way to `file`. False: changes of it would not be
    /// reported, because the path has links, the file has other names, or watches are exhausted. A
    /// change that was made before this call is not reported either.
    bool watch(const open_file& file);
    /// The same for a file and all of its compressed siblings.
    bool watch(const served_file& files);

    /// Drops from `cache` what has changed since the last call; all of it where that fails.
    void apply_changes(file_cache& cache);

    /// Removes all watches: a directory's name may refer elsewhere without a report.
    void unwatch_all() { unwatch_below(""); }

    std::size_t watch_count() const noexcept { return directories_.size(); }

private:
    // Each costs the kernel about a kilobyte, and its user has a limit
    // (fs.inotify.max_user_watches).
    static constexpr std::size_t watch_count_max = 4096;

    bool watch_directory(const std::string& directory);
    void unwatch_below(std::string_view directory);
    void apply_all_changes(file_cache& cache);
    void take_changes_of(const kevring::event& what, file_cache& cache);

    std::string root_path_;  // through /proc, for calls that take no descriptor
    std::string real_root_;
    std::optional<kevring::event_queue> queue_;
    std::unordered_map<std::uint64_t, std::string>
        directories_;  // by event_key::id; "" is the root
    std::unordered_map<std::string, kevring::event_key> watches_;
};

}  // namespace httpd
