// temporary_file.hpp: files without a name, and directories that are removed after their use.
#pragma once

#include <kevring/runtime/directory.hpp>
#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/file.hpp>
#include <kevring/runtime/result.hpp>
#include <kevring/runtime/task.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace kevring {

/// Opens a file for reads and writes that has no name and is removed when it is closed.
///
/// Errors     operation_canceled, timed_out; otherwise as for openat2(2).
/// Lifetime   `parent` stays valid until the await completes.
/// Kernel     O_TMPFILE by IORING_OP_OPENAT2, Linux 5.6; on file systems without it a file with a random
///            name, which IORING_OP_UNLINKAT (5.11) removes at once.
task<result<file>> open_temporary_file(const directory& parent, std::string_view path = "/tmp");

/// A directory with a random name, for its owner only.
///
/// Lifetime   Outlives every await on it; within the life of its ring. Without remove() the destructor
///            gives the removal to a thread of the shared pool and does not wait for it: a program that
///            ends at once leaves the directory.
/// Thread     The ring's own.
class temporary_directory {
public:
    /// Makes a directory below `path`, whose name begins with `prefix`.
    ///
    /// Errors     operation_canceled, timed_out; otherwise as for mkdirat(2).
    /// Lifetime   `parent` stays valid until the await completes.
    /// Kernel     IORING_OP_MKDIRAT, Linux 5.15.
    static task<result<temporary_directory>> make(const directory& parent,
                                                  std::string_view path = "/tmp",
                                                  std::string_view prefix = "kevring-");

    temporary_directory(temporary_directory&& other) noexcept
        : parent_(std::move(other.parent_)),
          opened_(std::move(other.opened_)),
          path_(std::move(other.path_)),
          name_(std::exchange(other.name_, std::string())) {}
    temporary_directory& operator=(temporary_directory&& other) noexcept;
    ~temporary_directory();

    const directory& opened() const noexcept { return opened_; }
    /// `path` of make() and the name.
    const std::string& path() const noexcept { return path_; }
    /// Removes the directory with all that is in it; see directory::remove_tree().
    task<result<std::uint64_t>> remove();

private:
    temporary_directory(directory parent, directory opened, std::string path,
                        std::string name) noexcept;
    static task<result<temporary_directory>> make_owned(const directory& parent, std::string path,
                                                        std::string prefix);

    directory parent_;
    directory opened_;
    std::string path_;
    std::string name_;  // empty after remove()
};

}  // namespace kevring
