// tree_removal.hpp: the removal of a directory with all that is below it, in steps of bounded length.
#pragma once

#include <kevring/runtime/detail/directory_levels.hpp>
#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/file_kernel.hpp>
#include <kevring/runtime/result.hpp>

#include <cstddef>
#include <cstdint>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

namespace kevring::detail {

/// Thread     One at a time.
class tree_removal {
public:
    /// `directory` stays open as long as the object is used.
    tree_removal(file_kernel& system, fd_ref directory, std::string_view path)
        : system_(system),
          directory_(directory),
          root_(root_path(path)),
          levels_(system, open_count_max) {}

    /// Removes up to `entry_count_max` entries. False: there are more.
    result<bool> step(std::size_t entry_count_max, const std::stop_token& stop);
    std::uint64_t removed_count() const noexcept { return removed_count_; }

private:
    static constexpr std::size_t open_count_max = 32;
    static constexpr unsigned repeat_count_max = 1000;

    int begin();
    int remove_next();
    int remove_entry(int directory, const char* name);
    int enter(int directory, const char* name);
    int remove_current();

    file_kernel& system_;
    const fd_ref directory_;
    const std::string root_;
    directory_levels levels_;
    std::vector<std::string> names_;  // of the levels
    std::uint64_t removed_count_ = 0;
    unsigned repeat_count_ = 0;  // directories that got an entry while they were removed
    bool begun_ = false;
};

}  // namespace kevring::detail
