#include "file_cache.hpp"

#include <utility>

namespace httpd {
namespace {

// For so long who was used last stays.
constexpr std::time_t in_use_seconds = 2;

}  // namespace

void file_cache::put(std::string_view raw_path, cached_file file) {
    drop(raw_path);
    if (by_path_.size() >= count_max_) {
        const std::time_t unused = file.used_at - order_.back().cached.used_at;
        if (unused >= 0 && unused < in_use_seconds) return;  // below 0 the clock was set
    }
    while (by_path_.size() >= count_max_) {
        by_path_.erase(order_.back().raw_path);
        order_.pop_back();
    }
    order_.push_front(entry{std::string(raw_path), std::move(file)});
    by_path_.emplace(order_.front().raw_path, order_.begin());
}

void file_cache::drop(std::string_view raw_path) {
    const auto found = by_path_.find(raw_path);
    if (found == by_path_.end()) return;
    const auto place = found->second;
    by_path_.erase(found);  // first: its key is a view into the entry
    order_.erase(place);
}

void file_cache::drop_named(std::string_view name) {
    for (auto each = order_.begin(); each != order_.end();) {
        const auto place = each++;
        const std::string_view served = place->cached.file->plain.name;
        const bool below =
            name.empty() || (served.starts_with(name) &&
                             (served.size() == name.size() || served[name.size()] == '/'));
        const bool sibling =
            name.starts_with(served) &&
            (name.ends_with(".zst") || name.ends_with(".br") || name.ends_with(".gz"));
        if (!below && !sibling) continue;
        by_path_.erase(place->raw_path);  // first: its key is a view into the entry
        order_.erase(place);
    }
}

void file_cache::clear() noexcept {
    by_path_.clear();
    order_.clear();
}

}  // namespace httpd
