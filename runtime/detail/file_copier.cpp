#include <kevring/runtime/detail/file_copier.hpp>

#include <algorithm>
#include <cerrno>

#include <fcntl.h>
#include <sys/stat.h>

namespace kevring::detail {
namespace {

constexpr std::size_t buffer_bytes = 128 * 1024;
constexpr std::size_t pipe_bytes = 64 * 1024;  // the capacity of a pipe

// Errors after which another way may succeed: other file systems, files of /proc, old kernels.
bool is_unsupported(ssize_t answer) noexcept {
    return answer == -EXDEV || answer == -EINVAL || answer == -EOPNOTSUPP || answer == -ENOSYS ||
           answer == -EPERM;
}

}  // namespace

int file_copier::begin(int source_directory, const char* source, int target_directory,
                       const char* target, const copy_options& options) {
    target_name_ = target;  // first: it may throw
    // Non-blocking: the open of a FIFO would wait for its writer.
    fd from(system_.open_at(source_directory, source, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY,
                            0));
    if (!from) return from.number();
    struct stat status{};
    if (const int answer = system_.status(from.number(), status); answer < 0) return answer;
    if (!S_ISREG(status.st_mode)) return S_ISDIR(status.st_mode) ? -EISDIR : -EINVAL;
    const mode_t permissions = status.st_mode & 0777;
    constexpr int flags = O_WRONLY | O_CREAT | O_NOFOLLOW | O_NOCTTY;
    fd made(system_.open_at(target_directory, target, flags | O_EXCL, permissions));
    created_ = made.valid();
    if (made.number() == -EEXIST && options.overwrite) {
        // Truncated only after the check that it is another file than the source.
        // Non-blocking: the open of a FIFO would wait for its reader.
        made.reset(system_.open_at(target_directory, target,
                                   O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0));
        struct stat existing{};
        if (made) {
            if (const int answer = system_.status(made.number(), existing); answer < 0)
                return answer;
            if (!S_ISREG(existing.st_mode)) return -EINVAL;
            if (existing.st_dev == status.st_dev && existing.st_ino == status.st_ino)
                return -EINVAL;
            if (const int answer = system_.truncate(made.number(), 0); answer < 0) return answer;
        }
    }
    if (!made) return made.number();
    source_ = std::move(from);
    target_ = std::move(made);
    target_directory_ = target_directory;
    preserve_ = options.preserve;
    method_ = range_fails_ ? method::splice : method::range;
    copied_bytes_ = 0;
    return 0;
}

ssize_t file_copier::step(std::size_t byte_count_max) {
    ssize_t count = 0;
    if (method_ == method::range) {
        count = system_.copy_range(source_.number(), target_.number(), byte_count_max);
        // Files of /proc have the size 0, which copy_file_range(2) believes.
        if (copied_bytes_ == 0 && (count == 0 || is_unsupported(count))) {
            range_fails_ = count == -ENOSYS || count == -EXDEV;
            method_ = count == 0 ? method::read_write : method::splice;
        }
    }
    if (method_ == method::splice) count = copy_by_splice(byte_count_max);
    if (method_ == method::read_write) count = copy_by_read(source_.number(), byte_count_max);
    if (count > 0) copied_bytes_ += static_cast<std::uint64_t>(count);
    if (count == -EINTR) return step(byte_count_max);
    return count == 0 ? finish() : count;
}

ssize_t file_copier::copy_by_splice(std::size_t byte_count_max) {
    if (!pipe_in_) {
        int ends[2] = {-1, -1};
        if (system_.open_pipe(ends) < 0) {
            method_ = method::read_write;
            return 0;
        }
        pipe_out_.reset(ends[0]);
        pipe_in_.reset(ends[1]);
    }
    const ssize_t count =
        system_.splice(source_.number(), pipe_in_.number(), std::min(byte_count_max, pipe_bytes));
    if (count <= 0) {
        if (is_unsupported(count)) method_ = method::read_write;
        return count;
    }
    auto left = static_cast<std::size_t>(count);
    while (left != 0) {
        ssize_t moved = system_.splice(pipe_out_.number(), target_.number(), left);
        if (is_unsupported(moved)) moved = copy_by_read(pipe_out_.number(), left);
        if (moved == -EINTR) continue;
        if (moved <= 0) {
            pipe_out_.reset();  // with the bytes
            pipe_in_.reset();
            return moved == 0 ? -EIO : moved;
        }
        left -= static_cast<std::size_t>(moved);
    }
    return count;
}

ssize_t file_copier::copy_by_read(int from, std::size_t byte_count_max) {
    if (buffer_ == nullptr) buffer_ = std::make_unique<std::byte[]>(buffer_bytes);
    const ssize_t count = system_.read(from, buffer_.get(), std::min(byte_count_max, buffer_bytes));
    return count <= 0 ? count : write_whole(buffer_.get(), static_cast<std::size_t>(count));
}

ssize_t file_copier::write_whole(const std::byte* bytes, std::size_t byte_count) {
    std::size_t written = 0;
    while (written != byte_count) {
        const ssize_t count =
            system_.write(target_.number(), bytes + written, byte_count - written);
        if (count == -EINTR) continue;
        if (count <= 0) return count == 0 ? -EIO : count;
        written += static_cast<std::size_t>(count);
    }
    return static_cast<ssize_t>(byte_count);
}

int file_copier::finish() {
    if (preserve_) {
        struct stat status{};
        if (const int answer = system_.status(source_.number(), status); answer < 0) return answer;
        // Set-id bits would act for another owner.
        if (const int answer = system_.set_permissions(target_.number(), status.st_mode & 0777);
            answer < 0)
            return answer;
        const timespec times[2] = {status.st_atim, status.st_mtim};
        if (const int answer = system_.set_times(target_.number(), times); answer < 0)
            return answer;
    }
    // File systems on a network and those with quotas report here that bytes were not stored.
    if (const int answer = system_.close(target_.release()); answer < 0) return answer;
    source_.reset();
    return 0;
}

void file_copier::discard() noexcept {
    if (!active()) return;
    source_.reset();
    target_.reset();
    if (created_) static_cast<void>(system_.unlink_at(target_directory_, target_name_.c_str(), 0));
}

}  // namespace kevring::detail
