// aio_sendfile.cpp: aio_sendfile() and the related calls: transfers that complete as events of a queue.
//
// kevent/kevent.h declares the calls. They check their arguments, duplicate the descriptors, register
// the record, and pass the transfer to the loop that runs all of them.
#include <kevring/kevent/kevent.h>
#include <kevring/kevent/detail/aio_completion.hpp>
#include <kevring/kevent/detail/call_guard.hpp>
#include <kevring/kevent/detail/queue_core.hpp>
#include <kevring/kevent/detail/queue_table.hpp>
#include <kevring/kevent/detail/shared_file.hpp>
#include <kevring/runtime/detail/hidden_fd.hpp>
#include <kevring/runtime/detail/process.hpp>
#include <kevring/runtime/kernel.hpp>
#include <kevring/sendfile/aio/aio_loop.hpp>

#include <cerrno>
#include <climits>
#include <memory>
#include <new>
#include <span>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

namespace {

using kevring::fd;
using kevring::fd_ref;
using kevring::detail::aio_completion;
using kevring::detail::aio_loop;
using kevring::detail::aio_request;
using kevring::detail::call_guard;
using kevring::detail::hidden_fd;
using kevring::detail::queue_ref;

int take_socket(int number, aio_request& request) {
    request.socket = hidden_fd::duplicate(fd_ref(number));
    if (!request.socket) return -errno;
    struct stat status{};
    if (::fstat(request.socket.number(), &status) != 0) return -errno;
    if (!S_ISSOCK(status.st_mode)) return -ENOTSOCK;
    request.socket_identity = kevring::detail::identify_file(request.socket, status).number;
    return 0;
}

int take_file(int number, aio_request& request) {
    const int flags = ::fcntl(number, F_GETFL);
    if (flags < 0) return -errno;
    if ((flags & O_ACCMODE) == O_WRONLY || (flags & O_PATH) != 0) return -EBADF;
    request.file = hidden_fd::duplicate(fd_ref(number));
    if (!request.file) return -errno;
    struct stat status{};
    if (::fstat(request.file.number(), &status) != 0) return -errno;
    if (S_ISDIR(status.st_mode)) return -EISDIR;
    if (!S_ISREG(status.st_mode)) return -EINVAL;
    // Files of proc(5) report a size of 0 and have content. send_file() detects those of other file
    // systems.
    struct statfs system{};
    const bool is_proc =
        ::fstatfs(request.file.number(), &system) == 0 && system.f_type == PROC_SUPER_MAGIC;
    return is_proc ? -EINVAL : 0;
}

int copy_vector(const iovec* parts, unsigned count, std::vector<std::byte>& bytes) {
    if (count > IOV_MAX) return -EINVAL;
    if (parts == nullptr && count > 0) return -EFAULT;
    std::size_t room = SSIZE_MAX;  // as of writev(2)
    for (const iovec& part : std::span(parts, count)) {
        if (part.iov_base == nullptr && part.iov_len > 0) return -EFAULT;
        if (part.iov_len > room) return -EINVAL;
        room -= part.iov_len;
    }
    bytes.reserve(SSIZE_MAX - room);
    for (const iovec& part : std::span(parts, count)) {
        const auto* const first = static_cast<const std::byte*>(part.iov_base);
        bytes.insert(bytes.end(), first, first + part.iov_len);
    }
    return 0;
}

// Starts the transfer of `request`; the cookie, or a negative error number.
long start(kevring::detail::queue_core& queue, std::unique_ptr<aio_request> request, off_t offset,
           std::size_t count, void* user) {
    if (offset < 0) return -EINVAL;
    request->range = {static_cast<std::uint64_t>(offset), count};
    aio_loop& loop = aio_loop::get();
    if (const int failure = loop.ensure_running(); failure != 0) return failure;
    auto ticket = aio_completion::make();
    if (!ticket) return -ticket.error().value();
    request->ticket = *ticket;

    ukevent record{};
    record.id.raw_u64 = queue.allocate_id();
    record.type = KEVENT_AIO;
    record.event = KEVENT_MASK_ALL;
    record.req_flags = KEVENT_REQ_ONESHOT | KEVENT_REQ_ALWAYS_QUEUE;
    const auto cookie = static_cast<long>(record.id.raw_u64);
    if (user != nullptr)
        record.ptr = user;
    else
        record.ptr = reinterpret_cast<void*>(cookie);
    const int failure = queue.add_with_source(
        record, [&](kevring::detail::source_host& host, kevring::detail::registration& target) {
            return kevring::detail::make_aio_source(host, target, *ticket);
        });
    if (failure != 0) return failure;
    loop.start(std::move(request));  // last: no failure is possible after it
    return cookie;
}

// The common part of the three calls.
long send_by_event(int kevent_fd, int sock_fd, int in_fd, off_t offset, std::size_t count,
                   std::span<const iovec> header, std::span<const iovec> trailer, void* user) {
    // A child that shares the memory of its parent has other descriptors, and its threads end with it.
    if (!kevring::detail::runs_in_own_process()) return -EBADF;
    const queue_ref found = kevring::detail::find_queue(kevent_fd);
    if (found.queue == nullptr) return found.error_number;
    try {
        auto request = std::make_unique<aio_request>();
        if (const int failure = take_file(in_fd, *request); failure != 0) return failure;
        if (const int failure = take_socket(sock_fd, *request); failure != 0) return failure;
        int failure =
            copy_vector(header.data(), static_cast<unsigned>(header.size()), request->header);
        if (failure == 0)
            failure = copy_vector(trailer.data(), static_cast<unsigned>(trailer.size()),
                                  request->trailer);
        if (failure != 0) return failure;
        return start(*found.queue, std::move(request), offset, count, user);
    } catch (const std::bad_alloc&) {
        return -ENOMEM;
    } catch (const std::system_error& error) {
        return -error.code().value();
    }
}

}  // namespace

long aio_sendfile(int kevent_fd, int sock_fd, int in_fd, off_t offset, size_t count) {
    const call_guard whole_call;
    return send_by_event(kevent_fd, sock_fd, in_fd, offset, count, {}, {}, nullptr);
}

long aio_sendfile_path(int kevent_fd, int sock_fd, const char* filename, off_t offset,
                       size_t count) {
    const call_guard whole_call;
    if (filename == nullptr) return -EFAULT;
    fd file(::open(filename, O_RDONLY | O_CLOEXEC));
    if (!file) return -errno;
    const long started =
        send_by_event(kevent_fd, sock_fd, file.number(), offset, count, {}, {}, nullptr);
    return started < 0 ? started : file.release();
}

long aio_sendfilev(int kevent_fd, int sock_fd, const iovec* header, unsigned header_count,
                   int in_fd, off_t offset, size_t count, const iovec* trailer,
                   unsigned trailer_count, void* user) {
    const call_guard whole_call;
    if ((header == nullptr && header_count > 0) || (trailer == nullptr && trailer_count > 0))
        return -EFAULT;
    return send_by_event(kevent_fd, sock_fd, in_fd, offset, count, {header, header_count},
                         {trailer, trailer_count}, user);
}
