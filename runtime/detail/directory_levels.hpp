// directory_levels.hpp: the open directories from the root of a tree down to the current one.
#pragma once

#include <kevring/runtime/detail/language.hpp>
#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/file_kernel.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <sys/types.h>

namespace kevring::detail {

/// The root of a tree as it is opened. A path ends at its first zero byte; slashes behind a name would
/// make the kernel follow a symbolic link in spite of O_NOFOLLOW.
inline std::string root_path(std::string_view path) {
    path = path.substr(0, path.find('\0'));
    while (path.size() > 1 && path.back() == '/') path.remove_suffix(1);
    return std::string(path);
}

/// One entry of a directory. `name` stays valid until the next call of directory_levels.
struct listed_entry {
    const char* name = nullptr;
    unsigned char type = 0;  // DT_REG and so on
    std::uint64_t inode = 0;
};

/// A path through a tree that follows no symbolic link, however deep, with a bounded number of
/// descriptors: the directories above the last few are closed, with the rest of their entries in
/// memory, and opened again through "..". A directory that has been moved in between is an error,
/// because ".." leads elsewhere.
///
/// Errors     Functions return 0 or a count, or a negated errno; std::bad_alloc.
/// Thread     One at a time.
class directory_levels {
public:
    directory_levels(file_kernel& system, std::size_t open_count_max) noexcept
        : system_(system), open_count_max_(open_count_max < 2 ? 2 : open_count_max) {}

    /// Opens the directory `path` below `directory` as the current one. -ENOTDIR or -ELOOP for a
    /// symbolic link.
    int enter(int directory, const char* path);
    /// Closes the current directory; the one above it becomes the current one. -ESTALE if it is no
    /// longer there.
    int leave();
    /// The next entry of the current directory except "." and "..": 1, or 0 at the end.
    int next(listed_entry& entry);

    std::size_t depth() const noexcept { return levels_.size(); }
    /// The current directory.
    int current() const noexcept { return levels_.back().directory.number(); }

private:
    struct level {
        fd directory;
        std::vector<std::byte> entries;  // as getdents64(2) writes them
        std::size_t position = 0;
        bool listing = false;
        bool ended = false;
        dev_t device = 0;  // of a closed directory
        ino_t inode = 0;
    };

    int close_first();
    int read_entries(level& current, std::size_t used);

    file_kernel& system_;
    std::size_t open_count_max_;
    std::size_t first_open_ = 0;
    std::vector<level> levels_;
};

}  // namespace kevring::detail
