#include <kevring/runtime/kernel.hpp>

#include <kevring/runtime/detail/hidden_fd.hpp>
#include <kevring/runtime/detail/task_work.hpp>
#include <kevring/runtime/detail/uring.hpp>

#include <atomic>
#include <cerrno>
#include <ctime>

#include <fcntl.h>
#include <linux/openat2.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

namespace kevring {
namespace {

class linux_kernel final : public kernel {};

// The kernel maps a new ring where another thread's has just been, and orders the two; this says
// the same in the language's terms, for what cannot see the kernel (ThreadSanitizer).
std::atomic<unsigned> rings_ended{0};

// The convention of the interface: the error travels in the value, errno stays as it was.
template <class Number>
Number syscall_result(Number returned, int saved_errno) noexcept {
    if (returned >= 0) return returned;
    const Number error = -errno;
    errno = saved_errno;
    return error;
}

// cachestat(2), which is newer than the headers of Debian 12 (include/uapi/linux/mman.h).
constexpr long number_of_cachestat = 451;
struct cachestat_range {
    std::uint64_t offset;
    std::uint64_t byte_count;
};
struct cachestat_counts {
    std::uint64_t cached;
    std::uint64_t dirty;
    std::uint64_t writeback;
    std::uint64_t evicted;
    std::uint64_t recently_evicted;
};

}  // namespace

kernel& kernel::real() noexcept {
    static linux_kernel only;
    return only;
}

int kernel::ring_setup(unsigned entries, io_uring_params& params, io_uring& ring) noexcept {
    const int made = io_uring_queue_init_params(entries, &ring, &params);
    if (made >= 0) {
        // The mappings stay; only the number changes.
        const int number = detail::above_standard(ring.ring_fd);
        if (ring.enter_ring_fd == ring.ring_fd) ring.enter_ring_fd = number;
        ring.ring_fd = number;
        if (number < 0) {
            const int error = errno;
            io_uring_queue_exit(&ring);
            return -error;
        }
    }
    detail::count_ring_created();
    // acquire: pairs with the release in ring_exit().
    static_cast<void>(rings_ended.load(std::memory_order_acquire));
    return made;
}

void kernel::ring_exit(io_uring& ring) noexcept {
    rings_ended.fetch_add(1, std::memory_order_release);  // first: the addresses are free after it
    io_uring_queue_exit(&ring);
}

int kernel::ring_enter(io_uring& ring, unsigned submit_count, unsigned wait_count, unsigned flags,
                       const __kernel_timespec* timeout) noexcept {
    const int saved_errno = errno;
    if (timeout == nullptr)
        return syscall_result(
            static_cast<int>(::syscall(__NR_io_uring_enter, ring.ring_fd, submit_count, wait_count,
                                       flags, nullptr, std::size_t{0})),
            saved_errno);
    io_uring_getevents_arg argument{};
    argument.ts = reinterpret_cast<std::uintptr_t>(timeout);
    return syscall_result(
        static_cast<int>(::syscall(__NR_io_uring_enter, ring.ring_fd, submit_count, wait_count,
                                   flags | IORING_ENTER_EXT_ARG, &argument, sizeof argument)),
        saved_errno);
}

int kernel::ring_register(io_uring& ring, unsigned opcode, void* argument,
                          unsigned count) noexcept {
    const int saved_errno = errno;
    // A wake-up of another ring is sent through no ring at all (IORING_REGISTER_SEND_MSG_RING).
    const int descriptor = opcode == detail::register_send_msg_ring ? -1 : ring.ring_fd;
    return syscall_result(
        static_cast<int>(::syscall(__NR_io_uring_register, descriptor, opcode, argument, count)),
        saved_errno);
}

std::int64_t kernel::steady_ns() noexcept {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

int kernel::open_at(int directory, const char* path, const open_how& how) noexcept {
    const int saved_errno = errno;
    return syscall_result(
        static_cast<int>(::syscall(SYS_openat2, directory, path, &how, sizeof how)), saved_errno);
}

ssize_t kernel::send_file(int socket, int file, off_t* file_offset, std::size_t count) noexcept {
    const int saved_errno = errno;
    return syscall_result(::sendfile(socket, file, file_offset, count), saved_errno);
}

ssize_t kernel::read_nowait(int file, const iovec* parts, int part_count,
                            off_t file_offset) noexcept {
    const int saved_errno = errno;
    return syscall_result(::preadv2(file, parts, part_count, file_offset, RWF_NOWAIT), saved_errno);
}

int kernel::stat_file(int file, struct stat& status) noexcept {
    const int saved_errno = errno;
    return syscall_result(::fstat(file, &status), saved_errno);
}

int kernel::poll_nowait(pollfd* entries, unsigned count) noexcept {
    const int saved_errno = errno;
    return syscall_result(::poll(entries, count, 0), saved_errno);
}

ssize_t kernel::resident_pages(int file, std::uint64_t file_offset, std::uint64_t count) noexcept {
    const int saved_errno = errno;
    cachestat_range range{file_offset, count};
    cachestat_counts counts{};
    const long asked =
        syscall_result(::syscall(number_of_cachestat, file, &range, &counts, 0), saved_errno);
    return asked < 0 ? asked : static_cast<ssize_t>(counts.cached);
}

ssize_t kernel::sendmsg_nowait(int socket, const msghdr& message, int flags) noexcept {
    const int saved_errno = errno;
    flags |= MSG_DONTWAIT | MSG_NOSIGNAL;
    // A message that is one buffer costs the kernel less without the list.
    if (message.msg_iovlen == 1 && message.msg_name == nullptr && message.msg_controllen == 0)
        return syscall_result(
            ::send(socket, message.msg_iov->iov_base, message.msg_iov->iov_len, flags),
            saved_errno);
    return syscall_result(::sendmsg(socket, &message, flags), saved_errno);
}

ssize_t kernel::receive_nowait(int socket, void* buffer, std::size_t byte_count) noexcept {
    const int saved_errno = errno;
    return syscall_result(::recv(socket, buffer, byte_count, MSG_DONTWAIT), saved_errno);
}

ssize_t kernel::splice_nowait(int source, off_t* source_offset, int target, std::size_t count,
                              unsigned flags) noexcept {
    const int saved_errno = errno;
    return syscall_result(
        ::splice(source, source_offset, target, nullptr, count, flags | SPLICE_F_NONBLOCK),
        saved_errno);
}

int kernel::status_flags(int file) noexcept {
    const int saved_errno = errno;
    return syscall_result(::fcntl(file, F_GETFL), saved_errno);
}

int kernel::shutdown(int socket, int direction) noexcept {
    const int saved_errno = errno;
    return syscall_result(::shutdown(socket, direction), saved_errno);
}

int kernel::set_nonblocking(int file) noexcept {
    const int saved_errno = errno;
    const int flags = status_flags(file);
    if (flags < 0 || (flags & O_NONBLOCK) != 0) return flags < 0 ? flags : 0;
    return syscall_result(::fcntl(file, F_SETFL, flags | O_NONBLOCK), saved_errno);
}

int kernel::open_pipe(int (&ends)[2], std::size_t capacity_bytes) noexcept {
    const int saved_errno = errno;
    if (::pipe2(ends, O_CLOEXEC) != 0) return syscall_result(-1, saved_errno);
    for (int& end : ends) {
        end = detail::above_standard(end);
        if (end >= 0) continue;
        const int error = errno;
        for (const int other : ends)
            if (other >= 0) ::close(other);
        errno = error;
        return syscall_result(-1, saved_errno);
    }
    // The pipe buffers of a user are limited (pipe(7), /proc/sys/fs/pipe-user-pages-soft): a
    // refusal leaves the pipe as it was made, and its capacity is read back.
    static_cast<void>(::fcntl(ends[1], F_SETPIPE_SZ, static_cast<int>(capacity_bytes)));
    const int capacity = ::fcntl(ends[1], F_GETPIPE_SZ);
    errno = saved_errno;
    return capacity;
}

}  // namespace kevring
