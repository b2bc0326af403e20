// kernel.hpp: the one seam between the library and Linux.
//
// Every io_uring call, every direct system call of the library and every look at a clock goes
// through a `kernel`. Programs use kernel::real() without knowing; a test hands a ring its own, and
// makes any request fail with any errno, come back short, late or out of order.
#pragma once

#include <kevring/runtime/detail/language.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>

#include <sys/types.h>

struct io_uring;
struct io_uring_params;
struct __kernel_timespec;
struct iovec;
struct msghdr;
struct open_how;
struct pollfd;
struct sockaddr;
struct stat;

namespace kevring {

/// The system calls of the library. They return as system calls do inside the kernel: a count or a
/// descriptor, or a negated errno; none of them touches errno.
///
/// Thread     Any; an override for tests is used by the ring that was given it.
class kernel {
public:
    virtual ~kernel() = default;

    /// The kernel that this process runs on.
    static kernel& real() noexcept;

    // io_uring.

    /// Sets a ring up and maps its queues into `ring`. `params` as for io_uring_setup(2).
    virtual int ring_setup(unsigned entries, io_uring_params& params, io_uring& ring) noexcept;
    virtual void ring_exit(io_uring& ring) noexcept;
    /// io_uring_enter(2); `timeout` may be null, and is relative.
    virtual int ring_enter(io_uring& ring, unsigned submit_count, unsigned wait_count,
                           unsigned flags, const __kernel_timespec* timeout) noexcept;
    /// True if completions wait outside of the memory that the ring reads, so that an enter is
    /// needed to see them. Never for Linux, where those of its worker threads appear in the queue
    /// without IORING_SQ_TASKRUN (6.1); for tests that stand between a ring and its queue.
    virtual bool holds_completions(const io_uring&) const noexcept { return false; }
    /// io_uring_register(2) on `ring`.
    virtual int ring_register(io_uring& ring, unsigned opcode, void* argument,
                              unsigned count) noexcept;

    // Clocks.

    /// Nanoseconds on CLOCK_MONOTONIC, which std::chrono::steady_clock reads too.
    virtual std::int64_t steady_ns() noexcept;

    // Direct calls: what the ring cannot do, or would do in a worker thread.

    virtual int open_at(int directory, const char* path, const open_how& how) noexcept;
    virtual ssize_t send_file(int socket, int file, off_t* file_offset, std::size_t count) noexcept;
    virtual ssize_t read_nowait(int file, const iovec* parts, int part_count,
                                off_t file_offset) noexcept;  // preadv2() with RWF_NOWAIT
    virtual int stat_file(int file, struct stat& status) noexcept;
    virtual int poll_nowait(pollfd* entries, unsigned count) noexcept;  // poll() that does not wait
    /// Pages of a part of a file that are in the page cache, or being read into it; cachestat(2),
    /// Linux 6.5.
    virtual ssize_t resident_pages(int file, std::uint64_t file_offset,
                                   std::uint64_t count) noexcept;
    /// sendmsg(2) that neither waits nor raises SIGPIPE.
    virtual ssize_t sendmsg_nowait(int socket, const msghdr& message, int flags) noexcept;
    /// recv(2) that does not wait.
    virtual ssize_t receive_nowait(int socket, void* buffer, std::size_t byte_count) noexcept;
    virtual ssize_t splice_nowait(int source, off_t* source_offset, int target, std::size_t count,
                                  unsigned flags) noexcept;
    virtual int status_flags(int file) noexcept;  // fcntl(2), F_GETFL
    virtual int shutdown(int socket, int direction) noexcept;
    /// Sets O_NONBLOCK on the open file behind a descriptor, where it is not set.
    virtual int set_nonblocking(int file) noexcept;
    /// Opens a pipe for about `capacity_bytes`; the capacity that it has got.
    virtual int open_pipe(int (&ends)[2], std::size_t capacity_bytes) noexcept;

protected:
    kernel() = default;
    kernel(const kernel&) = default;
    kernel& operator=(const kernel&) = default;
};

}  // namespace kevring
