// path.hpp: requests that change the names of files: rename, link, symlink, unlink, mkdir.
#pragma once

#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/operation.hpp>

#include <sys/types.h>

namespace kevring {

/// Renames a file or a directory.
///
/// Errors     operation_canceled, timed_out, and the kernel may have renamed it; otherwise as for
///            renameat2(2).
/// Lifetime   Both paths are C strings that stay valid until the await completes; the directories
///            stay open.
/// Kernel     IORING_OP_RENAMEAT, Linux 5.11; an io-wq thread of the kernel always executes it.
class [[nodiscard]] rename_operation final : public operation {
public:
    /// `flags` as for renameat2(2): 0, RENAME_NOREPLACE, RENAME_EXCHANGE or RENAME_WHITEOUT.
    rename_operation(ring& loop, fd_ref source_directory, const char* source,
                     fd_ref target_directory, const char* target, unsigned flags = 0,
                     std::stop_token stop = {}) noexcept
        : operation(loop, std::move(stop)),
          source_directory_(source_directory),
          target_directory_(target_directory),
          source_(source),
          target_(target),
          flags_(flags) {}

    [[nodiscard]] result<void> await_resume() const noexcept { return done_or_failure(); }
    void prepare(io_uring_sqe& sqe) noexcept override;

private:
    fd_ref source_directory_;
    fd_ref target_directory_;
    const char* source_;
    const char* target_;
    unsigned flags_;
};

/// Gives a file a further name; see rename_operation for lifetimes.
///
/// Errors     operation_canceled, timed_out, and the kernel may have made the link; otherwise as for
///            linkat(2).
/// Kernel     IORING_OP_LINKAT, Linux 5.15; an io-wq thread of the kernel always executes it.
class [[nodiscard]] link_operation final : public operation {
public:
    /// `flags` as for linkat(2): AT_SYMLINK_FOLLOW, AT_EMPTY_PATH.
    link_operation(ring& loop, fd_ref source_directory, const char* source, fd_ref target_directory,
                   const char* target, int flags = 0, std::stop_token stop = {}) noexcept
        : operation(loop, std::move(stop)),
          source_directory_(source_directory),
          target_directory_(target_directory),
          source_(source),
          target_(target),
          flags_(flags) {}

    [[nodiscard]] result<void> await_resume() const noexcept { return done_or_failure(); }
    void prepare(io_uring_sqe& sqe) noexcept override;

private:
    fd_ref source_directory_;
    fd_ref target_directory_;
    const char* source_;
    const char* target_;
    int flags_;
};

/// Makes a symbolic link at `path` whose content is `target`.
///
/// Errors     operation_canceled, timed_out, and the kernel may have made the link; otherwise as for
///            symlinkat(2).
/// Lifetime   Both are C strings that stay valid until the await completes.
/// Kernel     IORING_OP_SYMLINKAT, Linux 5.15; an io-wq thread of the kernel always executes it.
class [[nodiscard]] symlink_operation final : public operation {
public:
    symlink_operation(ring& loop, const char* target, fd_ref directory, const char* path,
                      std::stop_token stop = {}) noexcept
        : operation(loop, std::move(stop)), directory_(directory), target_(target), path_(path) {}

    [[nodiscard]] result<void> await_resume() const noexcept { return done_or_failure(); }
    void prepare(io_uring_sqe& sqe) noexcept override;

private:
    fd_ref directory_;
    const char* target_;
    const char* path_;
};

/// Removes a name: of a file, or with AT_REMOVEDIR of an empty directory. A symbolic link is removed
/// itself, not its target.
///
/// Errors     operation_canceled, timed_out, and the kernel may have removed the name; otherwise as
///            for unlinkat(2).
/// Lifetime   `path` is a C string that stays valid until the await completes.
/// Kernel     IORING_OP_UNLINKAT, Linux 5.11; an io-wq thread of the kernel always executes it.
class [[nodiscard]] unlink_operation final : public operation {
public:
    unlink_operation(ring& loop, fd_ref directory, const char* path, int flags = 0,
                     std::stop_token stop = {}) noexcept
        : operation(loop, std::move(stop)), directory_(directory), path_(path), flags_(flags) {}

    [[nodiscard]] result<void> await_resume() const noexcept { return done_or_failure(); }
    void prepare(io_uring_sqe& sqe) noexcept override;

private:
    fd_ref directory_;
    const char* path_;
    int flags_;
};

/// Makes a directory.
///
/// Errors     operation_canceled, timed_out, and the kernel may have made the directory; otherwise as
///            for mkdirat(2).
/// Lifetime   `path` is a C string that stays valid until the await completes.
/// Kernel     IORING_OP_MKDIRAT, Linux 5.15; an io-wq thread of the kernel always executes it.
class [[nodiscard]] make_directory_operation final : public operation {
public:
    /// `permissions` are reduced by the umask of the process.
    make_directory_operation(ring& loop, fd_ref directory, const char* path,
                             mode_t permissions = 0777, std::stop_token stop = {}) noexcept
        : operation(loop, std::move(stop)),
          directory_(directory),
          path_(path),
          permissions_(permissions) {}

    [[nodiscard]] result<void> await_resume() const noexcept { return done_or_failure(); }
    void prepare(io_uring_sqe& sqe) noexcept override;

private:
    fd_ref directory_;
    const char* path_;
    mode_t permissions_;
};

}  // namespace kevring
