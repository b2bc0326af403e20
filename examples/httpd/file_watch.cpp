#include "file_watch.hpp"

#include "file_cache.hpp"

#include <array>
#include <cerrno>
#include <climits>
#include <cstring>

#include <sys/inotify.h>
#include <unistd.h>

namespace httpd {
namespace {

constexpr std::uint32_t wanted_events = IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO |
                                        IN_MODIFY | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF |
                                        IN_ONLYDIR;

std::string path_of(kevring::fd_ref file) {
    std::array<char, PATH_MAX> path{};
    const std::string link = "/proc/self/fd/" + std::to_string(file.number());
    const ssize_t count = ::readlink(link.c_str(), path.data(), path.size());
    return {path.data(), count < 0 ? 0 : static_cast<std::size_t>(count)};
}

}  // namespace

file_watch::file_watch(kevring::fd_ref root)
    : root_path_("/proc/self/fd/" + std::to_string(root.number())),
      real_root_(path_of(root)),
      inotify_(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC)) {
    if (real_root_ == "/") real_root_.clear();
}

bool file_watch::cover(const open_file& file) {
    if (!inotify_ || file.link_count != 1) return false;
    if (path_of(file.descriptor) != real_root_ + '/' + file.name) return false;
    for (std::size_t end = 0; end != std::string::npos; end = file.name.find('/', end + 1))
        if (!watch_folder(file.name.substr(0, end))) return false;
    return true;
}

bool file_watch::watch_folder(const std::string& folder) {
    if (watches_.contains(folder)) return true;
    if (watches_.size() >= watch_count_max) return false;
    const std::string path = root_path_ + '/' + folder;
    const int watch = ::inotify_add_watch(inotify_.number(), path.c_str(), wanted_events);
    if (watch < 0) return false;
    folders_[watch] = folder;
    watches_[folder] = watch;
    return true;
}

void file_watch::forget_below(std::string_view folder) {
    for (auto each = watches_.begin(); each != watches_.end();) {
        const std::string_view watched = each->first;
        const bool below =
            folder.empty() || (watched.starts_with(folder) &&
                               (watched.size() == folder.size() || watched[folder.size()] == '/'));
        if (!below) {
            ++each;
            continue;
        }
        ::inotify_rm_watch(inotify_.number(), each->second);
        folders_.erase(each->second);
        each = watches_.erase(each);
    }
}

void file_watch::take_changes(file_cache& cache) {
    if (!inotify_) return;
    alignas(inotify_event) std::array<char, 16 * 1024> buffer;
    while (true) {
        const ssize_t count = ::read(inotify_.number(), buffer.data(), buffer.size());
        if (count <= 0) {
            if (count < 0 && errno == EINTR) continue;
            return;
        }
        for (ssize_t at = 0; at < count;) {
            inotify_event event{};
            std::memcpy(&event, buffer.data() + at, sizeof event);
            const char* const name = buffer.data() + at + sizeof event;
            at += static_cast<ssize_t>(sizeof event + event.len);
            if ((event.mask & IN_Q_OVERFLOW) != 0) {
                cache.clear();  // something has changed, and nobody knows what
                continue;
            }
            const auto found = folders_.find(event.wd);
            if (found == folders_.end()) continue;
            std::string path = found->second;  // a copy: the entry may go below
            if (event.len > 0) {
                if (!path.empty()) path += '/';
                path += name;  // ends with a zero byte
            }
            const bool of_itself = event.len == 0;
            constexpr std::uint32_t gone = IN_DELETE_SELF | IN_MOVE_SELF | IN_IGNORED;
            if (of_itself && (event.mask & gone) == 0) continue;
            cache.drop_named(path);
            // The folder's name, and those below it, may lead elsewhere from now on.
            if (of_itself || (event.mask & IN_ISDIR) != 0) forget_below(path);
        }
    }
}

}  // namespace httpd
