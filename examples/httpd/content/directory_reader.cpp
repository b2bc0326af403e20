#include "directory_reader.hpp"

#include <kevring/runtime/operations/open.hpp>
#include <kevring/runtime/sleep.hpp>

#include <cerrno>
#include <memory>
#include <string>
#include <utility>

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>

namespace httpd {
namespace {

constexpr std::size_t entry_count_max = 20'000;
// About 50 us of calls.
constexpr std::size_t slice_entries = 64;

struct directory_closer {
    void operator()(DIR* directory) const noexcept { ::closedir(directory); }
};

}  // namespace

kevring::task<kevring::result<std::vector<directory_entry>>> read_directory(kevring::ring& loop,
                                                                            kevring::fd_ref root,
                                                                            const char* name) {
    kevring::open_operation open(loop, root, name, O_RDONLY | O_DIRECTORY, 0,
                                 RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS);
    auto opened = co_await open;
    if (!opened) co_return tl::unexpected(opened.error());
    const std::unique_ptr<DIR, directory_closer> directory(::fdopendir(opened->number()));
    if (!directory) co_return kevring::error_from_errno();
    const int number = opened->release();  // closedir() closes it

    std::vector<directory_entry> entries;
    std::size_t seen_count = 0;
    while (entries.size() < entry_count_max) {
        const dirent* const one = ::readdir(directory.get());
        if (one == nullptr) break;
        if (++seen_count % slice_entries == 0) co_await kevring::yield();
        if (one->d_name[0] == '.') continue;
        directory_entry entry;
        entry.name = one->d_name;
        struct stat status{};
        if (::fstatat(number, one->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0) continue;
        if (S_ISLNK(status.st_mode)) {
            const std::string path = std::string(name) + '/' + entry.name;
            kevring::open_operation follow(loop, root, path.c_str(), O_PATH, 0,
                                           RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS);
            const auto target = co_await follow;
            if (!target || ::fstat(target->number(), &status) != 0) continue;
        }
        entry.directory = S_ISDIR(status.st_mode);
        if (!entry.directory && !S_ISREG(status.st_mode)) continue;
        entry.byte_count = static_cast<std::uint64_t>(status.st_size);
        entry.modified_second = status.st_mtim.tv_sec;
        entries.push_back(std::move(entry));
    }
    co_return entries;
}

}  // namespace httpd
