#include "file_watch.hpp"

#include "file_cache.hpp"

#include <array>
#include <climits>
#include <system_error>

#include <unistd.h>

namespace httpd {
namespace {

constexpr kevring::change_kind wanted_changes =
    kevring::change_kind::created | kevring::change_kind::removed | kevring::change_kind::modified |
    kevring::change_kind::attributes | kevring::change_kind::moved_from |
    kevring::change_kind::moved_to;

std::string path_of(kevring::fd_ref file) {
    std::array<char, PATH_MAX> path{};
    const std::string link = "/proc/self/fd/" + std::to_string(file.number());
    const ssize_t count = ::readlink(link.c_str(), path.data(), path.size());
    return {path.data(), count < 0 ? 0 : static_cast<std::size_t>(count)};
}

}  // namespace

file_watch::file_watch(kevring::fd_ref root)
    : root_path_("/proc/self/fd/" + std::to_string(root.number())), real_root_(path_of(root)) {
    if (real_root_ == "/") real_root_.clear();
    try {
        queue_.emplace();
    } catch (const std::system_error&) {
        queue_.reset();
    }
}

bool file_watch::watch(const open_file& file) {
    if (!queue_ || file.link_count != 1) return false;
    if (path_of(file.descriptor) != real_root_ + '/' + file.name) return false;
    for (std::size_t end = 0; end != std::string::npos; end = file.name.find('/', end + 1))
        if (!watch_directory(file.name.substr(0, end))) return false;
    return true;
}

bool file_watch::watch(const served_file& files) {
    if (!watch(files.plain)) return false;
    for (const auto& sibling : files.compressed)
        if (sibling && !sibling->in_memory && !watch(*sibling)) return false;
    return true;
}

bool file_watch::watch_directory(const std::string& directory) {
    if (watches_.contains(directory)) return true;
    if (watches_.size() >= watch_count_max) return false;
    const kevring::inode request(root_path_ + '/' + directory, wanted_changes,
                                 kevring::inode_names::kept);
    const auto added = queue_->add(request);
    if (!added) return false;
    directories_[added->id] = directory;
    watches_[directory] = *added;
    return true;
}

void file_watch::unwatch_below(std::string_view directory) {
    for (auto each = watches_.begin(); each != watches_.end();) {
        const std::string_view watched = each->first;
        const bool below = directory.empty() ||
                           (watched.starts_with(directory) && (watched.size() == directory.size() ||
                                                               watched[directory.size()] == '/'));
        if (!below) {
            ++each;
            continue;
        }
        queue_->remove(each->second);
        directories_.erase(each->second.id);
        each = watches_.erase(each);
    }
}

void file_watch::apply_changes(file_cache& cache) {
    if (!queue_) return;
    try {
        apply_all_changes(cache);
    } catch (...) {
        cache.clear();  // changes that were taken are not reported again
        unwatch_all();
        throw;
    }
}

void file_watch::apply_all_changes(file_cache& cache) {
    constexpr unsigned batch_max = 16;
    // A directory is ready at most once for the changes before this call. A process that makes
    // changes without end is noticed, but delays no request.
    const std::size_t folder_count = directories_.size();
    for (std::size_t taken = 0; taken <= folder_count; taken += batch_max) {
        const auto ready = queue_->poll(batch_max);
        for (const kevring::event& each : ready) take_changes_of(each, cache);
        if (ready.size() < batch_max) return;
    }
}

void file_watch::take_changes_of(const kevring::event& what, file_cache& cache) {
    const auto found = directories_.find(what.key().id);
    if (found == directories_.end()) return;      // forgotten by an event of this batch
    const std::string directory = found->second;  // a copy: the entry may go below
    const auto changes = queue_->take_changes(what.key());
    if (what.failed() || !changes) {
        cache.erase_below(directory);
        unwatch_below(directory);
        return;
    }
    for (const kevring::change& each : *changes) {
        if (any_of(each.kinds, kevring::change_kind::lost)) {
            // The changes are unknown: the directories below may be others.
            cache.clear();
            unwatch_below(directory);
            return;
        }
        if (each.name.empty()) {  // the folder itself: who may enter it
            cache.erase_below(directory);
            continue;
        }
        const std::string path = directory.empty() ? each.name : directory + '/' + each.name;
        cache.erase_named(path);
        // The folder's name, and those below it, may lead elsewhere from now on.
        if (any_of(each.kinds, kevring::change_kind::directory) || watches_.contains(path)) {
            cache.erase_below(path);
            unwatch_below(path);
        }
    }
}

}  // namespace httpd
