// file_kernel.hpp: the system calls about files that the ring has no request for, which a test overrides.
#pragma once

#include <kevring/runtime/ring_service.hpp>

#include <cstddef>
#include <cstdint>

#include <sys/types.h>

struct stat;
struct statx;
struct timespec;

namespace kevring {

class ring;

/// The calls that threads of a pool make. They answer as those of `kernel`: a count or a number, or a
/// negated errno; none of them changes errno.
///
/// Thread     Any, several at a time.
class file_kernel {
public:
    virtual ~file_kernel() = default;

    /// The kernel that this process runs on.
    static file_kernel& real() noexcept;
    /// That of a ring; real() unless a test has replaced it.
    ///
    /// Thread     The ring's own.
    static file_kernel& chosen_by(ring& loop);

    /// openat(2) with O_CLOEXEC; the number is no standard descriptor.
    virtual int open_at(int directory, const char* path, int flags, mode_t permissions) noexcept;
    virtual int status(int file, struct stat& status) noexcept;  // fstat(2)
    virtual int status_at(int directory, const char* path, int flags, unsigned mask,
                          struct statx& status) noexcept;  // statx(2)
    /// getdents64(2).
    virtual ssize_t read_directory(int directory, void* buffer, std::size_t byte_count) noexcept;
    virtual off_t seek(int file, off_t file_offset, int origin) noexcept;  // lseek(2)
    virtual int truncate(int file, off_t file_bytes) noexcept;             // ftruncate(2)
    virtual int unlink_at(int directory, const char* path, int flags) noexcept;
    virtual int make_directory_at(int directory, const char* path, mode_t permissions) noexcept;
    virtual int make_node_at(int directory, const char* path, mode_t mode) noexcept;  // mknodat(2)
    virtual int symlink_at(const char* target, int directory, const char* path) noexcept;
    virtual ssize_t read_link_at(int directory, const char* path, char* buffer,
                                 std::size_t byte_count) noexcept;
    virtual int set_permissions(int file, mode_t permissions) noexcept;  // fchmod(2)
    /// utimensat(2) of an open file: access and modification.
    virtual int set_times(int file, const timespec (&times)[2]) noexcept;
    virtual ssize_t list_attributes(int file, char* buffer, std::size_t byte_count) noexcept;
    virtual int remove_attribute(int file, const char* name) noexcept;
    virtual ssize_t copy_range(int source, int target,
                               std::size_t byte_count) noexcept;  // copy_file_range(2)
    virtual ssize_t splice(int source, int target, std::size_t byte_count) noexcept;
    virtual int open_pipe(int (&ends)[2]) noexcept;  // pipe2(2) with O_CLOEXEC
    virtual ssize_t read(int file, void* buffer, std::size_t byte_count) noexcept;
    virtual ssize_t write(int file, const void* bytes, std::size_t byte_count) noexcept;
    virtual int close(int file) noexcept;  // the number is free in any case

protected:
    file_kernel() = default;
    file_kernel(const file_kernel&) = default;
    file_kernel& operator=(const file_kernel&) = default;
};

/// The file_kernel of a ring: loop.service<file_kernel_choice>().
struct file_kernel_choice final : ring_service {
    explicit file_kernel_choice(ring&) noexcept {}
    file_kernel* chosen = &file_kernel::real();
};

}  // namespace kevring
