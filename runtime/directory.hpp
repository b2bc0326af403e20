// directory.hpp: a directory, and everything that is done with paths below it.
#pragma once

#include <kevring/runtime/copy_options.hpp>
#include <kevring/runtime/directory_entry.hpp>
#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/file.hpp>
#include <kevring/runtime/result.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/task.hpp>
#include <kevring/runtime/tree_walk.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sys/types.h>

struct statx;

namespace kevring {

/// The entries of a directory in batches; see directory::list().
///
/// Lifetime   Outlives every await on it; within the life of its ring.
/// Thread     The ring's own.
/// In flight  One next_batch() at a time.
class directory_stream {
public:
    directory_stream(directory_stream&& other) noexcept;
    directory_stream& operator=(directory_stream&& other) noexcept;
    ~directory_stream();

    /// The next entries without "." and "..", some 1000 at most; none after the last one. An entry
    /// that is added or removed in the meantime may be reported or not.
    ///
    /// Errors     operation_canceled, timed_out, and no entry is lost; otherwise as for getdents64(2)
    ///            and blocking().
    /// Kernel     getdents64(2) on a thread of the shared pool: the ring has no request that lists a
    ///            directory.
    task<result<std::vector<directory_entry>>> next_batch();

private:
    friend class directory;
    class state;
    explicit directory_stream(std::unique_ptr<state> opened) noexcept;

    std::unique_ptr<state> state_;
};

/// A directory, or the working directory of the process. Relative paths start at it, and absolute
/// paths do not depend on it. A directory that stays open is the same one after others have renamed it.
///
/// Each function copies its paths: they stay valid until the await completes.
///
/// Errors     Of every await: operation_canceled and timed_out, and a change that the kernel had begun
///            is made; those of the named system call. A path with a null byte ends there.
/// Lifetime   Outlives every await on it; within the life of its ring.
/// Thread     The ring's own.
/// In flight  Any number.
class directory {
public:
    /// The working directory.
    static directory current(ring& loop) noexcept { return directory(loop, {}); }
    /// Takes over a descriptor that open() with O_DIRECTORY, or with O_PATH, has returned.
    directory(ring& loop, fd opened) noexcept : ring_(&loop), opened_(std::move(opened)) {}

    ring& loop() const noexcept { return *ring_; }
    /// False for the working directory.
    bool owns_descriptor() const noexcept { return opened_.valid(); }
    /// Gives the descriptor away; the object is then the working directory.
    [[nodiscard]] fd release() noexcept { return std::move(opened_); }
    /// AT_FDCWD for the working directory.
    fd_ref native() const noexcept;

    /// Opens a file. The open of a FIFO may wait for its other end; with open_options::nonblocking a
    /// reader opens immediately, and a writer without a reader ends with no_such_device_or_address.
    ///
    /// Kernel     IORING_OP_OPENAT2, Linux 5.6.
    task<result<file>> open_file(std::string_view path, const open_options& options = {}) const;
    /// Kernel     IORING_OP_OPENAT2, Linux 5.6.
    task<result<directory>> open_directory(std::string_view path) const;

    /// Reads a whole file; message_size for one with more than `byte_count_max` bytes.
    ///
    /// Kernel     IORING_OP_OPENAT2 and IORING_OP_READ, Linux 5.6.
    task<result<std::string>> read_file(std::string_view path, std::size_t byte_count_max) const;

    /// The status of a path; `mask` and `flags` as for statx(2).
    ///
    /// Lifetime   `status` stays valid until the await completes.
    /// Kernel     IORING_OP_STATX, Linux 5.6.
    task<result<void>> status(std::string_view path, struct statx& status, unsigned mask,
                              int flags = 0) const;
    /// The content of a symbolic link.
    ///
    /// Kernel     readlinkat(2) on a thread of the shared pool: the ring has no request for it.
    task<result<std::string>> read_link(std::string_view path) const;

    /// Renames below this directory, or to one below `target_directory`. `flags` as for renameat2(2).
    ///
    /// Kernel     IORING_OP_RENAMEAT, Linux 5.11.
    task<result<void>> rename(std::string_view source, std::string_view target,
                              unsigned flags = 0) const {
        return rename(source, *this, target, flags);
    }
    task<result<void>> rename(std::string_view source, const directory& target_directory,
                              std::string_view target, unsigned flags = 0) const;
    /// Gives a file a further name; `flags` as for linkat(2).
    ///
    /// Kernel     IORING_OP_LINKAT, Linux 5.15.
    task<result<void>> link(std::string_view source, const directory& target_directory,
                            std::string_view target, int flags = 0) const;
    /// Makes a symbolic link at `path` with the content `target`.
    ///
    /// Kernel     IORING_OP_SYMLINKAT, Linux 5.15.
    task<result<void>> symlink(std::string_view target, std::string_view path) const;
    /// Removes a file or a symbolic link.
    ///
    /// Kernel     IORING_OP_UNLINKAT, Linux 5.11.
    task<result<void>> remove_file(std::string_view path) const;
    /// Removes an empty directory.
    ///
    /// Kernel     IORING_OP_UNLINKAT, Linux 5.11.
    task<result<void>> remove_directory(std::string_view path) const;
    /// Makes a directory; file_exists if there is something of that name.
    ///
    /// Kernel     IORING_OP_MKDIRAT, Linux 5.15.
    task<result<void>> make_directory(std::string_view path, mode_t permissions = 0777) const;
    /// Makes a directory and those above it that are missing. Success if all of them exist, by
    /// whichever process; not_a_directory if one of them is something else.
    ///
    /// Kernel     IORING_OP_MKDIRAT, Linux 5.15, and IORING_OP_STATX.
    task<result<void>> make_directories(std::string_view path, mode_t permissions = 0777) const;
    /// Makes a FIFO.
    ///
    /// Kernel     mknodat(2) on a thread of the shared pool: the ring has no request for it.
    task<result<void>> make_fifo(std::string_view path, mode_t permissions = 0666) const;

    /// Opens the directory `path` to list it; "." lists this one.
    ///
    /// Kernel     IORING_OP_OPENAT2, Linux 5.6.
    task<result<directory_stream>> list(std::string_view path = ".") const;
    /// Every file below `path`; see tree_walk. This object stays until the first batch.
    tree_walk walk(std::string_view path = ".", const walk_options& options = {}) const;

    /// Removes `path`: a file, a symbolic link and not its target, or a directory with all that is
    /// below it, however deep. It follows no symbolic link, also where another process replaces a
    /// directory by one during the removal: each directory is opened by its name alone with O_NOFOLLOW,
    /// and its entries are removed relative to that descriptor. At most 32 of them are open.
    ///
    /// Result     The number of files and directories removed.
    /// Errors     no_such_file_or_directory for the root; invalid_argument for a path that ends with
    ///            "." or "..", and for "/"; ESTALE where another process has moved a
    ///            directory; operation_canceled, timed_out, and a part is removed; otherwise as for
    ///            unlinkat(2) and openat(2): the removal ends at the first error.
    /// Kernel     On a thread of the shared pool in steps of 512 entries: the ring has no request that
    ///            lists a directory, and a request each for openat(2) and unlinkat(2) would cost more.
    task<result<std::uint64_t>> remove_tree(std::string_view path) const;

    /// Copies a regular file; a target that exists is an error without copy_options::overwrite. Neither
    /// path may be a symbolic link.
    ///
    /// Result     The counts of bytes and files.
    /// Errors     invalid_argument for a source that is no regular file, or that is the target;
    ///            operation_canceled, timed_out; otherwise as for openat(2), copy_file_range(2),
    ///            write(2). After an error a target that the copy has created is removed.
    /// Kernel     copy_file_range(2) on a thread of the shared pool, in steps of 16 MiB: the ring has no
    ///            request for it. Fallbacks are splice(2), and read(2) with write(2). Holes of a
    ///            sparse file may become allocated.
    task<result<copy_progress>> copy_file(std::string_view source,
                                          const directory& target_directory,
                                          std::string_view target,
                                          const copy_options& options = {}) const;
    /// Copies a directory with all that is below it. Symbolic links and FIFOs are made again; sockets
    /// and devices are skipped and counted; a file with several names becomes several files. Follows
    /// no symbolic link, as remove_tree().
    ///
    /// Errors     As of copy_file(); invalid_argument for a target inside of the source. The copy ends
    ///            at the first error: an incomplete file is removed, the rest stays.
    /// Kernel     As of copy_file(); a step has at most 256 entries.
    task<result<copy_progress>> copy_tree(std::string_view source,
                                          const directory& target_directory,
                                          std::string_view target,
                                          const copy_options& options = {}) const;

private:
    ring* ring_;
    fd opened_;
};

}  // namespace kevring
