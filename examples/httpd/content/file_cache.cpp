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

void file_cache::put(std::string_view raw_path, cached_file file) {
    drop(raw_path);
    make_room_at(file.file->plain.name);
    make_room();
    while (size() >= known_count_max()) drop(any_of(closed_.empty() ? open_ : closed_));
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
    enter(one);
}

// Each look through the paths of a file is short, then, and a client that thinks of ever more of
// them for one file does not push out the others.
void file_cache::make_room_at(std::string_view name) noexcept {
    const std::size_t count = by_name_.count(name);
    if (count < paths_of_each_file) return;
    const auto skipped = static_cast<std::ptrdiff_t>(random() % count);
    drop(*std::next(by_name_.find(name), skipped)->second);
}

void file_cache::make_room() noexcept {
    while (open_.size() >= open_count_max_) {
        entry& one = any_of(open_);
        // A response may be sending from it; and of what nobody watches nothing is remembered.
        if (one.cached.file.use_count() > 1 || !one.cached.file->watched) {
            drop(one);
            continue;
        }
        leave(one);
        one.cached.file->close();
        one.is_open = false;
        enter(one);
    }
}

void file_cache::opened(std::string_view raw_path) noexcept {
    entry& one = by_path_.find(raw_path)->second;
    leave(one);
    one.is_open = true;
    enter(one);
}

char* file_cache::content_room(cached_file& known, std::time_t now) noexcept {
    // Where all are in use, a file that comes new is not worth a long search.
    constexpr int looks_max = 2;
    if (known.content) return known.content.get();
    const std::size_t byte_count = content_bytes_of(known);
    if (byte_count == 0 || byte_count > content_bytes_max_) return nullptr;
    for (int looks = 0; byte_count > content_bytes_max_ - content_bytes_; ++looks) {
        if (looks == looks_max) return nullptr;
        cached_file& other = *with_content_[random() % with_content_.size()];
        if (!other.asked_of_late(now)) forget_content(other);
    }
    try {
        auto content = std::make_unique_for_overwrite<char[]>(byte_count);
        with_content_.push_back(&known);
        known.content = std::move(content);
    } catch (const std::bad_alloc&) {
        return nullptr;  // it is read for each, then
    }
    known.content_place = with_content_.size() - 1;
    content_bytes_ += byte_count;
    return known.content.get();
}

void file_cache::forget_content(cached_file& of) noexcept {
    if (!of.content) return;
    with_content_[of.content_place] = with_content_.back();
    with_content_[of.content_place]->content_place = of.content_place;
    with_content_.pop_back();
    content_bytes_ -= content_bytes_of(of);
    of.content.reset();
    of.content_is_good = false;
}

void file_cache::drop(std::string_view raw_path) {
    const auto found = by_path_.find(raw_path);
    if (found != by_path_.end()) drop(found->second);
}

void file_cache::drop_named(std::string_view name) {
    const auto drop_exactly = [&](std::string_view exact) {
        while (true) {
            const auto found = by_name_.find(exact);
            if (found == by_name_.end()) return;
            drop(*found->second);
        }
    };
    drop_exactly(name);
    for (const content_coding coding :
         {content_coding::zstd, content_coding::br, content_coding::gzip}) {
        const std::string_view suffix = suffix_of(coding);
        if (name.ends_with(suffix)) drop_exactly(name.substr(0, name.size() - suffix.size()));
    }
}

void file_cache::drop_below(std::string_view name) {
    if (name.empty()) return clear();
    for (auto each = by_name_.begin(); each != by_name_.end();) {
        entry& one = *(each++)->second;
        const std::string_view served = one.cached.file->plain.name;
        if (served.size() > name.size() && served.starts_with(name) && served[name.size()] == '/')
            drop(one);
    }
}

void file_cache::clear() noexcept {
    by_name_.clear();
    by_path_.clear();
    open_.clear();
    closed_.clear();
    with_content_.clear();
    content_bytes_ = 0;
}

void file_cache::enter(entry& one) noexcept {
    entries& list = one.is_open ? open_ : closed_;
    one.place = list.size();
    list.push_back(&one);
}

void file_cache::leave(entry& one) noexcept {
    entries& list = one.is_open ? open_ : closed_;
    list[one.place] = list.back();
    list[one.place]->place = one.place;
    list.pop_back();
}

void file_cache::drop(entry& one) noexcept {
    leave(one);
    forget_content(one.cached);
    const auto [begin, end] = by_name_.equal_range(one.cached.file->plain.name);
    by_name_.erase(std::find_if(begin, end, [&](const auto& each) { return each.second == &one; }));
    by_path_.erase(by_path_.find(one.raw_path));  // by its place: the key goes with the entry
}

std::size_t file_cache::content_bytes_of(const cached_file& known) noexcept {
    return static_cast<std::size_t>(known.file->plain.byte_count);
}

file_cache::entry& file_cache::any_of(const entries& among) noexcept {
    return *among[random() % among.size()];
}

std::uint64_t file_cache::random() noexcept {
    random_state_ ^= random_state_ << 13;  // xorshift, by Marsaglia
    random_state_ ^= random_state_ >> 7;
    random_state_ ^= random_state_ << 17;
    return random_state_;
}

}  // namespace httpd
