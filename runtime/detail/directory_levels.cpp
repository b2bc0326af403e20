#include <kevring/runtime/detail/directory_levels.hpp>

#include <cerrno>
#include <cstring>
#include <utility>

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

namespace kevring::detail {
namespace {

constexpr std::size_t list_bytes = 32 * 1024;
constexpr int directory_flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK;

// The fixed part of an entry of getdents64(2); the name follows.
struct entry_head {
    std::uint64_t inode;
    std::int64_t next_offset;
    std::uint16_t entry_bytes;
    std::uint8_t type;
};
constexpr std::size_t name_offset = 19;

}  // namespace

int directory_levels::enter(int directory, const char* path) {
    levels_.reserve(levels_.size() + 1);  // first: it may throw
    fd opened(system_.open_at(directory, path, directory_flags, 0));
    if (!opened) return opened.number();
    if (levels_.size() - first_open_ >= open_count_max_) {
        if (const int closed = close_first(); closed < 0) return closed;
    }
    levels_.emplace_back().directory = std::move(opened);
    return 0;
}

int directory_levels::leave() {
    const fd left = std::move(levels_.back().directory);
    levels_.pop_back();
    if (levels_.empty() || levels_.back().directory) return 0;
    level& parent = levels_.back();
    fd opened(system_.open_at(left.number(), "..", directory_flags, 0));
    if (!opened) return opened.number();
    struct stat found{};
    if (const int answer = system_.status(opened.number(), found); answer < 0) return answer;
    if (found.st_dev != parent.device || found.st_ino != parent.inode) return -ESTALE;
    parent.directory = std::move(opened);
    first_open_ = levels_.size() - 1;
    return 0;
}

int directory_levels::close_first() {
    level& first = levels_[first_open_];
    struct stat found{};
    if (const int answer = system_.status(first.directory.number(), found); answer < 0)
        return answer;
    if (first.listing) {
        first.entries.erase(first.entries.begin(),
                            first.entries.begin() + static_cast<std::ptrdiff_t>(first.position));
        first.position = 0;
        while (!first.ended) {
            const int answer = read_entries(first, first.entries.size());
            if (answer < 0) return answer;
        }
        first.entries.shrink_to_fit();
    }
    first.device = found.st_dev;
    first.inode = found.st_ino;
    first.directory.reset();
    ++first_open_;
    return 0;
}

// Reads further entries behind the first `used` bytes.
int directory_levels::read_entries(level& current, std::size_t used) {
    current.entries.resize(used + list_bytes);
    const ssize_t count = system_.read_directory(current.directory.number(),
                                                 current.entries.data() + used, list_bytes);
    current.entries.resize(used + (count > 0 ? static_cast<std::size_t>(count) : 0));
    // A directory that was removed in the meantime has no entries (ENOENT).
    if (count == 0 || count == -ENOENT) current.ended = true;
    return count < 0 && count != -ENOENT ? static_cast<int>(count) : 0;
}

int directory_levels::next(listed_entry& entry) {
    level& top = levels_.back();
    top.listing = true;
    while (true) {
        if (top.position == top.entries.size()) {
            if (top.ended) return 0;
            top.position = 0;
            if (const int answer = read_entries(top, 0); answer < 0) return answer;
            continue;
        }
        const std::byte* const record = top.entries.data() + top.position;
        entry_head head{};
        std::memcpy(&head, record, name_offset);
        top.position += head.entry_bytes;
        const char* const name = reinterpret_cast<const char*>(record + name_offset);
        if (std::strcmp(name, ".") == 0 || std::strcmp(name, "..") == 0) continue;
        entry = listed_entry{name, head.type, head.inode};
        return 1;
    }
}

}  // namespace kevring::detail
