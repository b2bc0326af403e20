#include "directory_reader.hpp"

#include <algorithm>
#include <cerrno>
#include <memory>
#include <utility>

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace httpd {
namespace {

constexpr std::uint64_t counted_max = 10'000'000;

struct directory_closer {
    void operator()(DIR* directory) const noexcept { ::closedir(directory); }
};

kevring::fd open_below(int directory, const char* path, int flags) noexcept {
    open_how how{};
    how.flags = static_cast<std::uint64_t>(flags) | O_CLOEXEC;
    how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
    constexpr int attempt_count_max = 8;  // a rename that races with the lookup makes it fail
    for (int attempt = 0;; ++attempt) {
        kevring::fd opened(
            static_cast<int>(::syscall(SYS_openat2, directory, path, &how, sizeof how)));
        if (opened || errno != EAGAIN || attempt == attempt_count_max) return opened;
    }
}

class directory_scan {
public:
    directory_scan(kevring::fd_ref root, const std::string& name, const directory_options& options)
        : root_(root), name_(name), options_(options) {}

    kevring::result<directory_contents> run(const std::function<bool()>& stopped) {
        kevring::fd opened = open_below(root_.number(), name_.c_str(), O_RDONLY | O_DIRECTORY);
        if (!opened) return kevring::error_from_errno();
        directory_.reset(::fdopendir(opened.number()));
        if (!directory_) return kevring::error_from_errno();
        number_ = opened.release();  // closedir() closes it

        directory_contents contents;
        std::vector<directory_entry>& entries = contents.entries;
        const std::size_t kept_max = options_.entry_count_max;
        while (const dirent* const each = ::readdir(directory_.get())) {
            directory_entry entry;
            if (!classify(*each, entry)) continue;
            if (contents.total_count == counted_max) {
                contents.counted_all = false;
                break;
            }
            if (++contents.total_count % 4096 == 0 && stopped())
                return kevring::error_from(std::errc::operation_canceled);
            entries.push_back(std::move(entry));
            if (entries.size() >= 2 * kept_max) keep_first(entries, kept_max);
        }
        keep_first(entries, kept_max);
        std::ranges::sort(entries, is_listed_before);
        const std::size_t before = entries.size();
        std::erase_if(entries, [this](directory_entry& entry) { return !add_status(entry); });
        contents.total_count -= before - entries.size();  // removed in the meantime
        return contents;
    }

private:
    static void keep_first(std::vector<directory_entry>& entries, std::size_t count) {
        if (entries.size() <= count) return;
        std::ranges::nth_element(entries, entries.begin() + static_cast<std::ptrdiff_t>(count),
                                 is_listed_before);
        entries.resize(count);
    }

    // Whether it is to be shown, and whether it is a directory.
    bool classify(const dirent& found, directory_entry& entry) {
        const std::string_view name = found.d_name;
        if (!is_servable(name) || (name.front() == '.' && !options_.hidden_files)) return false;
        entry.name = name;
        if (found.d_type == DT_REG) return true;
        if (found.d_type == DT_DIR) return entry.directory = true;
        if (found.d_type != DT_LNK && found.d_type != DT_UNKNOWN) return false;
        return add_status(entry);
    }

    bool add_status(directory_entry& entry) const {
        struct stat status{};
        if (::fstatat(number_, entry.name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) return false;
        if (S_ISLNK(status.st_mode)) {
            const std::string path = name_ + '/' + entry.name;
            const kevring::fd target = open_below(root_.number(), path.c_str(), O_PATH);
            if (!target || ::fstat(target.number(), &status) != 0) return false;
        }
        entry.directory = S_ISDIR(status.st_mode);
        if (!entry.directory && !S_ISREG(status.st_mode)) return false;
        entry.byte_count = static_cast<std::uint64_t>(status.st_size);
        entry.modified_second = status.st_mtim.tv_sec;
        return true;
    }

    kevring::fd_ref root_;
    const std::string& name_;
    const directory_options& options_;
    std::unique_ptr<DIR, directory_closer> directory_;
    int number_ = -1;
};

}  // namespace

kevring::result<directory_contents> read_directory(kevring::fd_ref root, const std::string& name,
                                                   const directory_options& options,
                                                   const std::function<bool()>& stopped) {
    return directory_scan(root, name, options).run(stopped);
}

}  // namespace httpd
