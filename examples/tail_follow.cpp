// tail_follow.cpp: prints a file and all that is appended to it, also after renames and truncations.
//
//   tail_follow PATH
#include <kevring/kevring.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <span>
#include <string>
#include <utility>

#include <sys/stat.h>

namespace {

using kevring::change_kind;

class follower {
public:
    follower(kevring::ring& loop, std::string path) : path_(std::move(path)), output_(loop) {}

    kevring::task<void> follow() {
        const std::filesystem::path path(path_);
        const std::string folder = path.has_parent_path() ? path.parent_path().string() : ".";
        const std::string name = path.filename().string();
        // The folder is watched before the file is opened: no change is between the two.
        auto changes = kevring::value_or_throw(kevring::change_stream::open(), "inotify");
        kevring::value_or_throw(
            changes.add(folder, change_kind::modified | change_kind::created |
                                    change_kind::moved_to | change_kind::moved_from |
                                    change_kind::removed),
            folder.c_str());
        co_await open_again();
        co_await print_rest();
        while (true) {
            auto got = co_await changes.next();
            const auto change = kevring::value_or_throw(std::move(got), "changes");
            if (change.name != name && !any_of(change.kinds, change_kind::lost)) continue;
            co_await open_again();
            co_await print_rest();
        }
    }

private:
    // The file that has the name now, from its beginning if it is another one or was truncated.
    kevring::task<void> open_again() {
        const auto folder = kevring::directory::current(*kevring::ring::current());
        auto opened = co_await folder.open_file(path_);
        if (!opened) co_return;  // between two names: the old file stays
        struct stat status{};
        kevring::value_or_throw(opened->status(status), "stat");
        if (file_ && status.st_dev == device_ && status.st_ino == inode_) {
            if (static_cast<std::uint64_t>(status.st_size) < file_offset_) file_offset_ = 0;
            co_return;
        }
        co_await print_rest();  // of the old file: bytes that came since the last read
        device_ = status.st_dev;
        inode_ = status.st_ino;
        file_offset_ = 0;
        file_ = std::move(*opened);
    }

    kevring::task<void> print_rest() {
        std::array<std::byte, 16384> buffer;
        while (file_) {
            auto request = file_.read(buffer, file_offset_);
            auto got = co_await request;
            const std::size_t count = kevring::value_or_throw(std::move(got), "read");
            if (count == 0) co_return;
            file_offset_ += count;
            const auto printed = co_await output_.write(std::span(buffer).first(count));
            if (!printed) throw std::system_error(printed.error(), "standard output");
        }
    }

    std::string path_;
    kevring::stdout_stream output_;
    kevring::file file_;
    dev_t device_ = 0;
    ino_t inode_ = 0;
    std::uint64_t file_offset_ = 0;
};

kevring::task<void> follow(std::string path) {
    follower one(*kevring::ring::current(), std::move(path));
    co_await one.follow();
}

}  // namespace

int main(int argc, char** argv) try {
    if (argc != 2) {
        std::fputs("usage: tail_follow PATH\n", stderr);
        return 2;
    }
    kevring::run(follow(argv[1]));
} catch (const std::exception& failure) {
    std::fprintf(stderr, "tail_follow: %s\n", failure.what());
    return 1;
}
