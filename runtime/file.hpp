// file.hpp: an open file, its reads and writes, size, storage and attributes.
#pragma once

#include <kevring/runtime/assert.hpp>
#include <kevring/runtime/byte_views.hpp>
#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/operations/advise.hpp>
#include <kevring/runtime/operations/file_range.hpp>
#include <kevring/runtime/operations/fsync.hpp>
#include <kevring/runtime/operations/open.hpp>
#include <kevring/runtime/operations/read.hpp>
#include <kevring/runtime/operations/write.hpp>
#include <kevring/runtime/operations/xattr.hpp>
#include <kevring/runtime/result.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/task.hpp>
#include <kevring/runtime/write_result.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sys/types.h>

struct stat;

namespace kevring {

enum class file_access : std::uint8_t { read, write, read_write, path };

/// The flags of open(2) by name. Trivially destructible: it may be written as a temporary in a
/// co_await expression.
struct open_options {
    file_access access = file_access::read;  // path: O_PATH, a reference without reads and writes
    bool create = false;                     // O_CREAT
    bool exclusive = false;  // O_EXCL: the file must not exist; with `temporary`: it gets no name
    bool truncate = false;   // O_TRUNC
    bool append = false;     // O_APPEND: each write is at the end
    bool temporary = false;  // O_TMPFILE: a file without a name in the directory of the path
    bool direct = false;     // O_DIRECT: offsets, lengths and addresses are aligned
    bool data_sync = false;  // O_DSYNC
    bool sync = false;       // O_SYNC
    bool directory = false;  // O_DIRECTORY: the path must be a directory
    bool follow_symlink = true;     // false: O_NOFOLLOW
    bool nonblocking = false;       // O_NONBLOCK
    bool keep_access_time = false;  // O_NOATIME
    /// Of a file that is created, reduced by the umask of the process.
    mode_t permissions = 0666;
    /// Restrictions as for openat2(2), such as RESOLVE_BENEATH.
    std::uint64_t resolve = 0;

    /// The flags of open(2), with O_CLOEXEC and O_NOCTTY.
    int flags() const noexcept;
    /// `permissions` where the flags create a file, and 0 otherwise, as openat2(2) wants it.
    mode_t mode() const noexcept { return create || temporary ? permissions : 0; }
};

/// Opens a path below `directory`, without a copy of it: `path` is a C string that stays valid until
/// the await completes. directory::open_file() copies it.
inline open_operation open_file(ring& loop, fd_ref directory, const char* path,
                                const open_options& options = {}) noexcept {
    return open_operation(loop, directory, path, options.flags(), options.mode(), options.resolve);
}

/// An open file.
///
/// Lifetime   Outlives every await on it; within the life of its ring. The destructor closes it.
/// Thread     The ring's own.
/// In flight  Any number of requests with an offset; one without an offset at a time.
/// Errors     Of every await: operation_canceled, timed_out.
class file {
public:
    file() noexcept = default;
    file(ring& loop, fd opened) noexcept : ring_(&loop), opened_(std::move(opened)) {}

    explicit operator bool() const noexcept { return opened_.valid(); }
    fd_ref native() const noexcept { return opened_; }
    [[nodiscard]] fd release() noexcept { return std::move(opened_); }
    /// Closes without blocking the loop, and reports the error of close(2).
    close_operation close() noexcept { return close_operation(loop(), std::move(opened_)); }

    /// One read or write, which may transfer fewer bytes; see read_operation and write_operation.
    /// Without an offset at the position of the file, which it advances.
    read_operation read(std::span<std::byte> buffer,
                        std::uint64_t file_offset = file_position) const noexcept {
        return read_operation(loop(), opened_, buffer, file_offset);
    }
    write_operation write(std::span<const std::byte> bytes,
                          std::uint64_t file_offset = file_position) const noexcept {
        return write_operation(loop(), opened_, bytes, file_offset);
    }
    template <byte_view Bytes>
    write_operation write(const Bytes& bytes,
                          std::uint64_t file_offset = file_position) const noexcept {
        return write(bytes_of(bytes), file_offset);
    }

    /// Reads until `buffer` is full or the file ends.
    ///
    /// Result     The bytes read: fewer than the buffer has only at the end of the file.
    /// Errors     Those of read_operation; the bytes before the error are in `buffer`, uncounted.
    /// Lifetime   `buffer` stays valid until the await completes.
    task<result<std::size_t>> read_full(std::span<std::byte> buffer,
                                        std::uint64_t file_offset = file_position) const;
    /// Reads from `file_offset` to the end, or from the position without one.
    ///
    /// Errors     Those of read_operation; message_size for more than `byte_count_max` bytes.
    task<result<std::string>> read_all(std::size_t byte_count_max,
                                       std::uint64_t file_offset = 0) const;
    /// Writes all of `bytes`.
    ///
    /// Errors     Those of write_operation; io_error if the kernel accepts none without an error.
    ///            write_result::bytes_written() is the number of bytes written before the error.
    /// Lifetime   `bytes` stay valid until the await completes.
    task<write_result> write_all(std::span<const std::byte> bytes,
                                 std::uint64_t file_offset = file_position) const;
    task<write_result> write_all(std::string_view text,
                                 std::uint64_t file_offset = file_position) const;
    template <byte_view Bytes>
    task<write_result> write_all(const Bytes& bytes,
                                 std::uint64_t file_offset = file_position) const {
        return write_all(bytes_of(bytes), file_offset);
    }
    /// Writes the bytes of all elements of a list, one after the other; the list itself is not used
    /// after the call.
    template <byte_view_list List>
    task<write_result> write_all(const List& list,
                                 std::uint64_t file_offset = file_position) const {
        return write_parts(detail::parts_of(list), file_offset);
    }

    /// Sets the size.
    ///
    /// Errors     As for ftruncate(2), and those of blocking() where the pool is used.
    /// Kernel     IORING_OP_FTRUNCATE, Linux 6.9; otherwise, and with KEVRING_WITHOUT=truncate,
    ///            ftruncate(2) on a thread of the shared pool.
    task<result<void>> truncate(std::uint64_t file_bytes) const;
    /// See allocate_operation.
    allocate_operation allocate(std::uint64_t file_offset, std::uint64_t byte_count,
                                int mode = 0) const noexcept {
        return allocate_operation(loop(), opened_, file_offset, byte_count, mode);
    }
    /// See advise_operation.
    advise_operation advise(std::uint64_t file_offset, std::uint64_t byte_count,
                            int advice) const noexcept {
        return advise_operation(loop(), opened_, file_offset, byte_count, advice);
    }
    /// See fsync_operation.
    fsync_operation sync(sync_scope scope = sync_scope::data_and_metadata) const noexcept {
        return fsync_operation(loop(), opened_, scope);
    }
    /// See sync_range_operation.
    sync_range_operation sync_range(std::uint64_t file_offset, std::uint64_t byte_count,
                                    unsigned flags) const noexcept {
        return sync_range_operation(loop(), opened_, file_offset, byte_count, flags);
    }
    /// The status, by a direct fstat(2); see file_status().
    result<void> status(struct stat& status) const noexcept;

    /// The value of an extended attribute.
    ///
    /// Errors     no_message_available (ENODATA) without the attribute; otherwise as for fgetxattr(2).
    /// Kernel     IORING_OP_FGETXATTR, Linux 5.19.
    task<result<std::string>> attribute(std::string_view name) const;
    /// Sets an extended attribute; `flags` as for fsetxattr(2).
    ///
    /// Kernel     IORING_OP_FSETXATTR, Linux 5.19.
    task<result<void>> set_attribute(std::string_view name, std::string_view value,
                                     int flags = 0) const;
    /// The names of all extended attributes.
    ///
    /// Kernel     flistxattr(2) on a thread of the shared pool: the ring has no request for it.
    task<result<std::vector<std::string>>> attribute_names() const;
    /// Kernel     fremovexattr(2) on a thread of the shared pool: the ring has no request for it.
    task<result<void>> remove_attribute(std::string_view name) const;

private:
    ring& loop() const noexcept {
        KEVRING_ASSERT(ring_ != nullptr,
                       "file used that was never opened; assign an opened file to it first");
        return *ring_;
    }
    task<write_result> write_parts(std::vector<iovec> parts, std::uint64_t file_offset) const;
    task<result<std::string>> get_attribute(std::string name) const;
    task<result<void>> put_attribute(std::string name, std::string value, int flags) const;
    task<result<void>> drop_attribute(std::string name) const;

    ring* ring_ = nullptr;
    fd opened_;
};

}  // namespace kevring
