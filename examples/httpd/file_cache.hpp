// file_cache.hpp: open files by the path that requests name them with; bounded, of one loop.
#pragma once

#include "site.hpp"

#include <cstddef>
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
    std::time_t used_at = 0;  // when it was found last
};

/// The files that were asked for last. One that has been asked for just now is not given up for
/// another: who reads more files than there is room for, one after the other, would push out each
/// just before it comes again. The key is the path as it stands in the request, so a hit
/// costs neither decoding nor a system call.
///
/// Thread     That of its loop.
class file_cache {
public:
    explicit file_cache(std::size_t count_max) noexcept : count_max_(count_max) {}

    /// The file that `raw_path` led to before; null if it is not here.
    cached_file* find(std::string_view raw_path, std::time_t now) {
        const auto found = by_path_.find(raw_path);
        if (found == by_path_.end()) return nullptr;
        order_.splice(order_.begin(), order_, found->second);
        found->second->cached.used_at = now;
        return &found->second->cached;
    }

    /// May leave it out.
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

    std::size_t count_max_;
    std::list<entry> order_;  // the one used last comes first
    std::unordered_map<std::string_view, std::list<entry>::iterator> by_path_;  // views of raw_path
};

}  // namespace httpd
