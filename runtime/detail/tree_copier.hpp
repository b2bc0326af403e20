// tree_copier.hpp: the copy of a directory with all that is below it, in steps of bounded length.
#pragma once

#include <kevring/runtime/copy_options.hpp>
#include <kevring/runtime/detail/directory_levels.hpp>
#include <kevring/runtime/detail/file_copier.hpp>
#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/file_kernel.hpp>
#include <kevring/runtime/result.hpp>

#include <cstddef>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include <sys/types.h>

namespace kevring::detail {

/// Thread     One at a time.
class tree_copier {
public:
    /// Both directories stay open as long as the object is used.
    tree_copier(file_kernel& system, fd_ref source_directory, std::string_view source,
                fd_ref target_directory, std::string_view target, const copy_options& options)
        : system_(system),
          options_(options),
          source_directory_(source_directory),
          target_directory_(target_directory),
          source_path_(root_path(source)),
          target_path_(root_path(target)),
          source_(system, open_count_max),
          target_(system, open_count_max),
          file_(system) {}

    /// Copies some entries or bytes. False: there are more.
    result<bool> step(const std::stop_token& stop);
    /// Removes the file whose copy is not complete; the rest of the copy stays.
    void discard() noexcept { file_.discard(); }
    const copy_progress& progress() const noexcept { return progress_; }

private:
    static constexpr std::size_t open_count_max = 32;

    struct level {
        mode_t permissions;  // of the source
        timespec times[2];
    };

    int begin();
    int copy_next();
    int copy_bytes(std::size_t& bytes_left);
    int copy_link(const char* name);
    int copy_fifo(const char* name);
    int enter(int source_directory, const char* source, int target_directory, const char* target);
    int leave();

    file_kernel& system_;
    const copy_options options_;
    const fd_ref source_directory_;
    const fd_ref target_directory_;
    const std::string source_path_;
    const std::string target_path_;
    directory_levels source_;
    directory_levels target_;
    std::vector<level> levels_;
    file_copier file_;
    copy_progress progress_;
    dev_t target_device_ = 0;  // of the root of the copy
    ino_t target_inode_ = 0;
    bool begun_ = false;
};

}  // namespace kevring::detail
