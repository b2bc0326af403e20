// file_cache.hpp: files by the path that requests name them with; bounded, of one loop.
#pragma once

#include "document_root.hpp"

#include <cstddef>
#include <cstdint>
#include <ctime>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace httpd {

/// A file that is known, and when its name was looked up last.
struct cached_file {
    // A watched file is looked up again after this time: Linux does not report bytes that are
    // written through a map of it or by io_submit(2), a mount, a change by another machine, or a
    // change by a name that was given to the file elsewhere. One lookup in two seconds costs little
    // compared with the requests for a file that is worth caching.
    static constexpr std::time_t fresh_seconds = 2;

    std::shared_ptr<served_file> file;
    std::time_t checked_at = 0;
    std::time_t used_at = 0;
    // The content of a small file, where there is memory for it.
    std::unique_ptr<char[]> content = nullptr;
    bool content_valid = false;     // it was read after the last lookup
    std::size_t content_index = 0;  // the cache's
    // The worker's: when it made a response of it last, and which one that was.
    std::uint64_t shared_generation = 0;
    std::size_t shared_index = 0;

    /// True if it is known to be unchanged, as long as no change is reported.
    bool is_fresh(std::time_t now) const noexcept {
        return file->watched && is_recent(checked_at, now);
    }
    bool recently_used(std::time_t now) const noexcept { return is_recent(used_at, now); }
    /// It was looked up. Bytes that were read before may have changed without a report.
    void mark_checked(std::time_t now) noexcept {
        checked_at = now;
        content_valid = false;
    }

private:
    // A clock that was set back means nothing.
    static bool is_recent(std::time_t then, std::time_t now) noexcept {
        return now >= then && now - then < fresh_seconds;
    }
};

/// Files that were asked for. Descriptors are scarce and memory is not: many times as many files
/// are known as are open, and to open one that is known again is a single call (site::reopen()).
///
/// Eviction is random: to evict the least recently used file means, where more files than there is
/// room for are read in sequence, to evict each just before it is requested again. The key is the
/// path as written in the request, so a hit costs neither decoding nor a system call.
///
/// Thread     That of its loop.
class file_cache {
public:
    static constexpr std::size_t known_per_open = 8;
    /// A file has more paths than anyone can keep ("/a", "//a", "/%61"); few of them are in use.
    static constexpr std::size_t paths_per_file = 8;

    /// `open_count_max` is at least 1. Of the contents of small files, `content_bytes_max` bytes
    /// are kept.
    explicit file_cache(std::size_t open_count_max, std::size_t content_bytes_max = 0);
    file_cache(const file_cache&) = delete;
    file_cache& operator=(const file_cache&) = delete;

    /// The file that `raw_path` led to before; null if it is not here. It may be closed.
    ///
    /// Lifetime   The cache's, until it changes.
    cached_file* find(std::string_view raw_path) {
        const auto found = by_path_.find(raw_path);
        return found == by_path_.end() ? nullptr : &found->second.cached;
    }

    /// Keeps a file that is open.
    void insert(std::string_view raw_path, cached_file file);
    /// Before a closed file is opened: closes another if as many are open as may be.
    void evict_one() noexcept;
    /// The file at `raw_path`, which was closed, has been opened.
    void mark_open(std::string_view raw_path) noexcept;

    /// Memory for the content of a small file of this cache, for as many bytes as it has. Where all
    /// is used, files that were not requested for two seconds are evicted; null if none is found.
    ///
    /// Lifetime   The file's, in the cache.
    char* allocate_content(cached_file& known, std::time_t now) noexcept;

    void erase(std::string_view raw_path);
    /// Drops what is served from the file `name`, or from a compressed sibling of that name.
    void erase_named(std::string_view name);
    /// Drops what is served from below the folder `name`; "" is the root.
    void erase_below(std::string_view name);
    void clear() noexcept;

    std::size_t size() const noexcept { return by_path_.size(); }
    std::size_t open_count() const noexcept { return open_.size(); }
    std::size_t content_bytes() const noexcept { return content_bytes_; }

private:
    struct entry {
        cached_file cached;
        std::string_view raw_path;  // its key
        bool is_open = true;
        std::size_t index = 0;  // in open_ or closed_
    };
    struct text_hash {
        using is_transparent = void;
        // Not noexcept: then libstdc++ keeps the hashes, and compares few texts.
        std::size_t operator()(std::string_view text) const {
            return std::hash<std::string_view>{}(text);
        }
    };
    using entries = std::vector<entry*>;  // in no order; they never grow beyond their capacity

    void link_entry(entry& one) noexcept;
    void unlink_entry(entry& one) noexcept;
    void erase(entry& one) noexcept;
    void limit_paths(std::string_view name) noexcept;
    void discard_content(cached_file& known) noexcept;
    static std::size_t content_bytes_of(const cached_file& known) noexcept;
    entry& random_entry(const entries& list) noexcept;
    std::uint64_t random() noexcept;
    std::size_t known_count_max() const noexcept { return open_count_max_ * known_per_open; }

    std::size_t open_count_max_;
    std::size_t content_bytes_max_;
    std::size_t content_bytes_ = 0;
    std::uint64_t random_state_ = 0x9e3779b97f4a7c15;
    entries open_;
    entries closed_;
    std::vector<cached_file*> content_holders_;
    std::unordered_map<std::string, entry, text_hash, std::equal_to<>> by_path_;
    // Keys are views into the entries' files.
    std::unordered_multimap<std::string_view, entry*> by_name_;
};

}  // namespace httpd
