// file_support.hpp: a folder for the files of one test, and calls about files that fail.
#pragma once

#include "tests/support/catch.hpp"

#include <kevring/runtime/directory.hpp>
#include <kevring/runtime/file_kernel.hpp>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/// A folder that is removed with its content.
class scratch_folder {
public:
    scratch_folder() {
        std::string name = "/tmp/kevring-test-XXXXXX";
        REQUIRE(::mkdtemp(name.data()) != nullptr);
        root_ = name;
        native_.reset(::open(name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    }
    scratch_folder(const scratch_folder&) = delete;
    scratch_folder& operator=(const scratch_folder&) = delete;
    ~scratch_folder() {
        std::error_code ignored;
        // An ordinary user cannot empty a folder without permission, which a failed test may leave.
        auto each = std::filesystem::recursive_directory_iterator(root_, ignored);
        for (; each != std::filesystem::recursive_directory_iterator(); each.increment(ignored))
            if (each->symlink_status(ignored).type() == std::filesystem::file_type::directory)
                std::filesystem::permissions(each->path(), std::filesystem::perms::owner_all,
                                             std::filesystem::perm_options::add, ignored);
        std::filesystem::remove_all(root_, ignored);
    }

    std::string path(const std::string& name) const { return root_ + '/' + name; }
    kevring::fd_ref native() const { return native_; }
    kevring::directory opened(kevring::ring& loop) const {
        return kevring::directory(loop, kevring::fd(::dup(native_.number())));
    }
    void write(const std::string& name, const std::string& content) const {
        std::ofstream(path(name)) << content;
    }
    std::string read(const std::string& name) const {
        std::ifstream file(path(name));
        return {std::istreambuf_iterator<char>(file), {}};
    }
    mode_t permissions(const std::string& name) const {
        struct stat status{};
        REQUIRE(::lstat(path(name).c_str(), &status) == 0);
        return status.st_mode & 07777;
    }
    /// The names in a folder, sorted.
    std::vector<std::string> names(const std::string& below = ".") const {
        std::vector<std::string> all;
        for (const auto& entry : std::filesystem::directory_iterator(path(below)))
            all.push_back(entry.path().filename());
        std::sort(all.begin(), all.end());
        return all;
    }

private:
    std::string root_;
    kevring::fd native_;
};

/// Fails calls by their names: the first ones after some others.
class faulty_files final : public kevring::file_kernel {
public:
    /// `call` fails with `error` once, after `good_count` calls.
    void fail(const std::string& call, int error, unsigned good_count = 0) {
        const std::lock_guard lock(mutex_);
        faults_[call] = {error, good_count};
    }
    /// Calls `function` before the call with this path.
    void before(const std::string& call, std::string path, std::function<void()> function) {
        hook_call_ = call;
        hook_path_ = std::move(path);
        hook_ = std::move(function);
    }
    unsigned count(const std::string& call) {
        const std::lock_guard lock(mutex_);
        return counts_[call];
    }

    int open_at(int directory, const char* path, int flags, mode_t mode) noexcept override {
        call_hook("open_at", path);
        const int error = next("open_at");
        return error != 0 ? -error : file_kernel::open_at(directory, path, flags, mode);
    }
    ssize_t read_directory(int directory, void* buffer, std::size_t bytes) noexcept override {
        const int error = next("read_directory");
        return error != 0 ? -error : file_kernel::read_directory(directory, buffer, bytes);
    }
    int status(int file, struct stat& status) noexcept override {
        const int error = next("status");
        return error != 0 ? -error : file_kernel::status(file, status);
    }
    int truncate(int file, off_t bytes) noexcept override {
        const int error = next("truncate");
        return error != 0 ? -error : file_kernel::truncate(file, bytes);
    }
    int unlink_at(int directory, const char* path, int flags) noexcept override {
        call_hook("unlink_at", path);
        const int error = next("unlink_at");
        return error != 0 ? -error : file_kernel::unlink_at(directory, path, flags);
    }
    int make_directory_at(int directory, const char* path, mode_t mode) noexcept override {
        const int error = next("make_directory_at");
        return error != 0 ? -error : file_kernel::make_directory_at(directory, path, mode);
    }
    ssize_t copy_range(int source, int target, std::size_t bytes) noexcept override {
        const int error = next("copy_range");
        return error != 0 ? -error : file_kernel::copy_range(source, target, bytes);
    }
    ssize_t splice(int source, int target, std::size_t bytes) noexcept override {
        const int error = next("splice");
        return error != 0 ? -error : file_kernel::splice(source, target, bytes);
    }
    int open_pipe(int (&ends)[2]) noexcept override {
        const int error = next("open_pipe");
        return error != 0 ? -error : file_kernel::open_pipe(ends);
    }
    ssize_t read(int file, void* buffer, std::size_t bytes) noexcept override {
        const int error = next("read");
        return error != 0 ? -error : file_kernel::read(file, buffer, bytes);
    }
    ssize_t write(int file, const void* bytes, std::size_t count) noexcept override {
        const int error = next("write");
        return error != 0 ? -error : file_kernel::write(file, bytes, count);
    }

private:
    struct fault {
        int error = 0;
        unsigned good_count = 0;
    };
    int next(const char* call) {
        const std::lock_guard lock(mutex_);
        ++counts_[call];
        const auto found = faults_.find(call);
        if (found == faults_.end()) return 0;
        if (found->second.good_count-- != 0) return 0;
        const int error = found->second.error;
        faults_.erase(found);
        return error;
    }
    void call_hook(const char* call, const char* path) {
        if (!hook_ || hook_call_ != call || hook_path_ != path) return;
        std::exchange(hook_, nullptr)();
    }

    std::mutex mutex_;
    std::map<std::string, fault> faults_;
    std::map<std::string, unsigned> counts_;
    std::string hook_call_;
    std::string hook_path_;
    std::function<void()> hook_;
};
