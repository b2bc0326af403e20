// file_cache.hpp: open files by the path that requests name them with; bounded, of one loop.
#pragma once

#include "site.hpp"

#include <cstddef>
#include <cstdint>
#include <ctime>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

namespace httpd {

/// A file that is kept open, and when its name was looked up last.
struct cached_file {
    std::shared_ptr<const served_file> file;
    std::time_t looked_at = 0;
};

/// Files that were asked for. Which one makes room for another is left to chance: to push out what
/// was used longest ago means, where more files than there is room for are read in turn, each of
/// them just before it comes again. The key is the path as it stands in the request, so a hit
/// costs neither decoding nor a system call.
///
/// Thread     That of its loop.
class file_cache {
public:
    explicit file_cache(std::size_t count_max) noexcept : count_max_(count_max) {}

    /// The file that `raw_path` led to before; null if it is not here.
    cached_file* find(std::string_view raw_path) {
        const auto found = by_path_.find(raw_path);
        if (found == by_path_.end()) return nullptr;
        return &found->second->cached;
    }

    void put(std::string_view raw_path, cached_file file);
    void drop(std::string_view raw_path);
    /// Drops what is served from `name`, a file or a folder, or from a compressed sibling of it.
    void drop_named(std::string_view name);
    void clear() noexcept;
    std::size_t size() const noexcept { return by_path_.size(); }

private:
    struct entry {
        std::string raw_path;
        cached_file cached;
    };

    void drop_any() noexcept;

    std::size_t count_max_;
    std::uint64_t random_state_ = 0x9e3779b97f4a7c15;
    std::list<entry> entries_;
    std::unordered_map<std::string_view, std::list<entry>::iterator> by_path_;  // views of raw_path
};

}  // namespace httpd
