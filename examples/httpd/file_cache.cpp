#include "file_cache.hpp"

#include <utility>

namespace httpd {

void file_cache::put(std::string_view raw_path, cached_file file) {
    drop(raw_path);
    while (by_path_.size() >= count_max_) drop_any();
    entries_.push_front(entry{std::string(raw_path), std::move(file)});
    by_path_.emplace(entries_.front().raw_path, entries_.begin());
}

void file_cache::drop_any() noexcept {
    random_state_ ^= random_state_ << 13;  // xorshift, by Marsaglia
    random_state_ ^= random_state_ >> 7;
    random_state_ ^= random_state_ << 17;
    std::size_t bucket = random_state_ % by_path_.bucket_count();
    while (by_path_.bucket_size(bucket) == 0) bucket = (bucket + 1) % by_path_.bucket_count();
    const auto place = by_path_.begin(bucket)->second;
    by_path_.erase(place->raw_path);  // first: its key is a view into the entry
    entries_.erase(place);
}

void file_cache::drop(std::string_view raw_path) {
    const auto found = by_path_.find(raw_path);
    if (found == by_path_.end()) return;
    const auto place = found->second;
    by_path_.erase(found);  // first: its key is a view into the entry
    entries_.erase(place);
}

void file_cache::drop_named(std::string_view name) {
    for (auto each = entries_.begin(); each != entries_.end();) {
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
        entries_.erase(place);
    }
}

void file_cache::clear() noexcept {
    by_path_.clear();
    entries_.clear();
}

}  // namespace httpd
