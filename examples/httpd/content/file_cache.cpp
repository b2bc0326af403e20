#include "file_cache.hpp"

#include "examples/httpd/http/accept_encoding.hpp"

#include <algorithm>
#include <iterator>
#include <new>
#include <utility>

namespace httpd {

file_cache::file_cache(std::size_t open_count_max, std::size_t content_bytes_max)
    : open_count_max_(open_count_max), content_bytes_max_(content_bytes_max) {
    open_.reserve(open_count_max_);
    closed_.reserve(known_count_max());
}

void file_cache::insert(std::string_view raw_path, cached_file file) {
    erase(raw_path);
    limit_paths(file.file->plain.name);
    evict_one();
    while (size() >= known_count_max()) erase(random_entry(closed_.empty() ? open_ : closed_));
    const auto made = by_path_.try_emplace(std::string(raw_path)).first;
    entry& one = made->second;
    one.raw_path = made->first;
    one.cached = std::move(file);
    try {
        by_name_.emplace(one.cached.file->plain.name, &one);
    } catch (...) {
        by_path_.erase(made);
        throw;
    }
    link_entry(one);
}

// So each search through the paths of a file is short, and a client that invents ever more of them
// for one file does not evict the others.
void file_cache::limit_paths(std::string_view name) noexcept {
    const std::size_t count = by_name_.count(name);
    if (count < paths_per_file) return;
    const auto skipped = static_cast<std::ptrdiff_t>(random() % count);
    erase(*std::next(by_name_.find(name), skipped)->second);
}

void file_cache::evict_one() noexcept {
    while (open_.size() >= open_count_max_) {
        entry& one = random_entry(open_);
        // A response may be sending from it; and the state of an unwatched file is not kept.
        if (one.cached.file.use_count() > 1 || !one.cached.file->watched) {
            erase(one);
            continue;
        }
        unlink_entry(one);
        one.cached.file->close();
        one.is_open = false;
        link_entry(one);
    }
}

void file_cache::mark_open(std::string_view raw_path) noexcept {
    entry& one = by_path_.find(raw_path)->second;
    unlink_entry(one);
    one.is_open = true;
    link_entry(one);
}

char* file_cache::allocate_content(cached_file& known, std::time_t now) noexcept {
    // If all are in use, a new file is not worth a long search.
    constexpr int attempts_max = 2;
    if (known.content) return known.content.get();
    const std::size_t byte_count = content_bytes_of(known);
    if (byte_count == 0 || byte_count > content_bytes_max_) return nullptr;
    for (int attempts = 0; byte_count > content_bytes_max_ - content_bytes_; ++attempts) {
        if (attempts == attempts_max) return nullptr;
        cached_file& other = *content_holders_[random() % content_holders_.size()];
        if (!other.recently_used(now)) discard_content(other);
    }
    try {
        auto content = std::make_unique_for_overwrite<char[]>(byte_count);
        content_holders_.push_back(&known);
        known.content = std::move(content);
    } catch (const std::bad_alloc&) {
        return nullptr;  // it is read for each, then
    }
    known.content_index = content_holders_.size() - 1;
    content_bytes_ += byte_count;
    return known.content.get();
}

void file_cache::discard_content(cached_file& known) noexcept {
    if (!known.content) return;
    content_holders_[known.content_index] = content_holders_.back();
    content_holders_[known.content_index]->content_index = known.content_index;
    content_holders_.pop_back();
    content_bytes_ -= content_bytes_of(known);
    known.content.reset();
    known.content_valid = false;
}

void file_cache::erase(std::string_view raw_path) {
    const auto found = by_path_.find(raw_path);
    if (found != by_path_.end()) erase(found->second);
}

void file_cache::erase_named(std::string_view name) {
    const auto erase_exactly = [&](std::string_view exact) {
        while (true) {
            const auto found = by_name_.find(exact);
            if (found == by_name_.end()) return;
            erase(*found->second);
        }
    };
    erase_exactly(name);
    for (const content_coding coding :
         {content_coding::zstd, content_coding::br, content_coding::gzip}) {
        const std::string_view suffix = suffix_of(coding);
        if (name.ends_with(suffix)) erase_exactly(name.substr(0, name.size() - suffix.size()));
    }
}

void file_cache::erase_below(std::string_view name) {
    if (name.empty()) return clear();
    for (auto each = by_name_.begin(); each != by_name_.end();) {
        entry& one = *(each++)->second;
        const std::string_view served = one.cached.file->plain.name;
        if (served.size() > name.size() && served.starts_with(name) && served[name.size()] == '/')
            erase(one);
    }
}

void file_cache::clear() noexcept {
    by_name_.clear();
    by_path_.clear();
    open_.clear();
    closed_.clear();
    content_holders_.clear();
    content_bytes_ = 0;
}

void file_cache::link_entry(entry& one) noexcept {
    entries& list = one.is_open ? open_ : closed_;
    one.index = list.size();
    list.push_back(&one);
}

void file_cache::unlink_entry(entry& one) noexcept {
    entries& list = one.is_open ? open_ : closed_;
    list[one.index] = list.back();
    list[one.index]->index = one.index;
    list.pop_back();
}

void file_cache::erase(entry& one) noexcept {
    unlink_entry(one);
    discard_content(one.cached);
    const auto [begin, end] = by_name_.equal_range(one.cached.file->plain.name);
    by_name_.erase(std::find_if(begin, end, [&](const auto& each) { return each.second == &one; }));
    by_path_.erase(by_path_.find(one.raw_path));  // by its place: the key goes with the entry
}

std::size_t file_cache::content_bytes_of(const cached_file& known) noexcept {
    return static_cast<std::size_t>(known.file->plain.byte_count);
}

file_cache::entry& file_cache::random_entry(const entries& list) noexcept {
    return *list[random() % list.size()];
}

std::uint64_t file_cache::random() noexcept {
    random_state_ ^= random_state_ << 13;  // xorshift, by Marsaglia
    random_state_ ^= random_state_ >> 7;
    random_state_ ^= random_state_ << 17;
    return random_state_;
}

}  // namespace httpd
