#include <kevring/runtime/file_kernel.hpp>

#include <kevring/runtime/detail/hidden_fd.hpp>
#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/ring.hpp>

#include <cerrno>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

namespace kevring {
namespace {

class linux_files final : public file_kernel {};

// The error travels in the value, errno keeps its value.
template <class Call>
auto answer_of(Call call) noexcept -> decltype(call()) {
    const int saved_errno = errno;
    const auto returned = call();
    if (returned >= 0) return returned;
    const int error = errno;
    errno = saved_errno;
    return -error;
}

}  // namespace

file_kernel& file_kernel::real() noexcept {
    static linux_files only;
    return only;
}

file_kernel& file_kernel::chosen_by(ring& loop) {
    return *loop.service<file_kernel_choice>().chosen;
}

int file_kernel::open_at(int directory, const char* path, int flags, mode_t permissions) noexcept {
    return answer_of([&] {
        return detail::above_standard(::openat(directory, path, flags | O_CLOEXEC, permissions));
    });
}

int file_kernel::status(int file, struct stat& status) noexcept {
    return answer_of([&] { return ::fstat(file, &status); });
}

int file_kernel::status_at(int directory, const char* path, int flags, unsigned mask,
                           struct statx& status) noexcept {
    return answer_of([&] { return ::statx(directory, path, flags, mask, &status); });
}

ssize_t file_kernel::read_directory(int directory, void* buffer, std::size_t byte_count) noexcept {
    return answer_of([&] {
        return static_cast<ssize_t>(::syscall(SYS_getdents64, directory, buffer, byte_count));
    });
}

off_t file_kernel::seek(int file, off_t file_offset, int origin) noexcept {
    return answer_of([&] { return ::lseek(file, file_offset, origin); });
}

int file_kernel::truncate(int file, off_t file_bytes) noexcept {
    return answer_of([&] { return ::ftruncate(file, file_bytes); });
}

int file_kernel::unlink_at(int directory, const char* path, int flags) noexcept {
    return answer_of([&] { return ::unlinkat(directory, path, flags); });
}

int file_kernel::make_directory_at(int directory, const char* path, mode_t permissions) noexcept {
    return answer_of([&] { return ::mkdirat(directory, path, permissions); });
}

int file_kernel::make_node_at(int directory, const char* path, mode_t mode) noexcept {
    return answer_of([&] { return ::mknodat(directory, path, mode, 0); });
}

int file_kernel::symlink_at(const char* target, int directory, const char* path) noexcept {
    return answer_of([&] { return ::symlinkat(target, directory, path); });
}

ssize_t file_kernel::read_link_at(int directory, const char* path, char* buffer,
                                  std::size_t byte_count) noexcept {
    return answer_of([&] { return ::readlinkat(directory, path, buffer, byte_count); });
}

int file_kernel::set_permissions(int file, mode_t permissions) noexcept {
    return answer_of([&] { return ::fchmod(file, permissions); });
}

int file_kernel::set_times(int file, const timespec (&times)[2]) noexcept {
    return answer_of([&] { return ::futimens(file, times); });
}

int file_kernel::close(int file) noexcept {
    return answer_of([&] { return ::close(file); });
}

ssize_t file_kernel::list_attributes(int file, char* buffer, std::size_t byte_count) noexcept {
    return answer_of([&] { return ::flistxattr(file, buffer, byte_count); });
}

int file_kernel::remove_attribute(int file, const char* name) noexcept {
    return answer_of([&] { return ::fremovexattr(file, name); });
}

ssize_t file_kernel::copy_range(int source, int target, std::size_t byte_count) noexcept {
    return answer_of(
        [&] { return ::copy_file_range(source, nullptr, target, nullptr, byte_count, 0); });
}

ssize_t file_kernel::splice(int source, int target, std::size_t byte_count) noexcept {
    return answer_of(
        [&] { return ::splice(source, nullptr, target, nullptr, byte_count, SPLICE_F_MOVE); });
}

int file_kernel::open_pipe(int (&ends)[2]) noexcept {
    return answer_of([&] {
        if (::pipe2(ends, O_CLOEXEC) != 0) return -1;
        fd reading(detail::above_standard(ends[0]));
        fd writing(detail::above_standard(ends[1]));
        if (!reading || !writing) return -1;
        ends[0] = reading.release();
        ends[1] = writing.release();
        return 0;
    });
}

ssize_t file_kernel::read(int file, void* buffer, std::size_t byte_count) noexcept {
    return answer_of([&] { return ::read(file, buffer, byte_count); });
}

ssize_t file_kernel::write(int file, const void* bytes, std::size_t byte_count) noexcept {
    return answer_of([&] { return ::write(file, bytes, byte_count); });
}

}  // namespace kevring
