// The errors that the manual pages list for each request of files, names, attributes and messages:
// each reaches the caller unchanged. contract.cpp tests the other promises.
#include "tests/support/catch.hpp"
#include "tests/support/run_on.hpp"
#include "tests/support/scripted_kernel.hpp"

#include <kevring/runtime/operations/accept.hpp>
#include <kevring/runtime/operations/advise.hpp>
#include <kevring/runtime/operations/connect.hpp>
#include <kevring/runtime/operations/datagram.hpp>
#include <kevring/runtime/operations/file_range.hpp>
#include <kevring/runtime/operations/fsync.hpp>
#include <kevring/runtime/operations/open.hpp>
#include <kevring/runtime/operations/path.hpp>
#include <kevring/runtime/operations/read.hpp>
#include <kevring/runtime/operations/splice.hpp>
#include <kevring/runtime/operations/statx.hpp>
#include <kevring/runtime/operations/tee.hpp>
#include <kevring/runtime/operations/write.hpp>
#include <kevring/runtime/operations/xattr.hpp>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>

using kevring::fd_ref;
using kevring::ring;
using kevring::task;

namespace {

// The requests are not executed, so that their descriptors need not be open.
struct arguments {
    fd_ref file{0};
    std::array<std::byte, 8> bytes{};
    msghdr message{};
    struct statx status{};
    sockaddr_in address{};
};

struct row {
    const char* name;
    std::uint8_t opcode;
    std::vector<int> errors;  // those of the page, except EINTR and EAGAIN
    std::function<task<std::error_code>(ring&, arguments&)> await;
};

template <class Request>
task<std::error_code> error_of(Request request) {
    const auto answer = co_await request;
    co_return answer ? std::error_code() : answer.error();
}

std::vector<row> rows() {
    using namespace kevring;
    return {
        {"openat2",
         IORING_OP_OPENAT2,
         {E2BIG,   EACCES,     EBUSY,     EDQUOT, EEXIST, EFAULT,  EFBIG,  EINVAL,       EISDIR,
          ELOOP,   EMFILE,     ENFILE,    ENODEV, ENOENT, ENOMEM,  ENOSPC, ENAMETOOLONG, ENXIO,
          ENOTDIR, EOPNOTSUPP, EOVERFLOW, EPERM,  EROFS,  ETXTBSY, EXDEV},
         [](ring& loop, arguments& setup) {
             return error_of(open_operation(loop, setup.file, "x", O_RDWR, 0, 0));
         }},
        {"statx",
         IORING_OP_STATX,
         {EACCES, EBADF, EFAULT, EINVAL, ELOOP, ENAMETOOLONG, ENOENT, ENOMEM, ENOTDIR},
         [](ring& loop, arguments& setup) {
             return error_of(
                 statx_operation(loop, setup.file, "x", 0, STATX_BASIC_STATS, setup.status));
         }},
        {"pread",
         IORING_OP_READ,
         {EBADF, EFAULT, EINVAL, EIO, EISDIR, ENXIO, EOVERFLOW, ESPIPE},
         [](ring& loop, arguments& setup) {
             return error_of(read_operation(loop, setup.file, setup.bytes, 0));
         }},
        {"pwrite",
         IORING_OP_WRITE,
         {EBADF, EDESTADDRREQ, EDQUOT, EFAULT, EFBIG, EINVAL, EIO, ENOSPC, EPERM, EPIPE, ESPIPE},
         [](ring& loop, arguments& setup) {
             return error_of(write_operation(loop, setup.file, setup.bytes, 0));
         }},
        {"fsync",
         IORING_OP_FSYNC,
         {EBADF, EIO, ENOSPC, EROFS, EINVAL, EDQUOT},
         [](ring& loop, arguments& setup) {
             return error_of(fsync_operation(loop, setup.file, sync_scope::data));
         }},
        {"ftruncate",
         truncate_operation::opcode,
         {EACCES, EBADF, EFBIG, EINVAL, EIO, EISDIR, EPERM, EROFS, ETXTBSY},
         [](ring& loop, arguments& setup) {
             return error_of(truncate_operation(loop, setup.file, 1));
         }},
        {"fallocate",
         IORING_OP_FALLOCATE,
         {EBADF, EFBIG, EFAULT, EINVAL, EIO, ENODEV, ENOSPC, ENOSYS, EOPNOTSUPP, EPERM, ESPIPE,
          ETXTBSY},
         [](ring& loop, arguments& setup) {
             return error_of(allocate_operation(loop, setup.file, 0, 1));
         }},
        {"sync_file_range",
         IORING_OP_SYNC_FILE_RANGE,
         {EBADF, EINVAL, EIO, ENOMEM, ENOSPC, ESPIPE},
         [](ring& loop, arguments& setup) {
             return error_of(sync_range_operation(loop, setup.file, 0, 1, 0));
         }},
        {"posix_fadvise",
         IORING_OP_FADVISE,
         {EBADF, EINVAL, ESPIPE},
         [](ring& loop, arguments& setup) {
             return error_of(advise_operation(loop, setup.file, 0, 1, POSIX_FADV_WILLNEED));
         }},
        {"renameat2",
         IORING_OP_RENAMEAT,
         {EACCES, EBUSY, EDQUOT, EEXIST, EFAULT, EINVAL, EISDIR, ELOOP, EMLINK, ENAMETOOLONG,
          ENOENT, ENOMEM, ENOSPC, ENOTDIR, ENOTEMPTY, EPERM, EROFS, EXDEV, EBADF},
         [](ring& loop, arguments& setup) {
             return error_of(rename_operation(loop, setup.file, "x", setup.file, "y"));
         }},
        {"linkat",
         IORING_OP_LINKAT,
         {EACCES, EDQUOT, EEXIST, EFAULT, EIO, ELOOP, EMLINK, ENAMETOOLONG, ENOENT, ENOMEM, ENOSPC,
          ENOTDIR, EPERM, EROFS, EXDEV, EBADF, EINVAL},
         [](ring& loop, arguments& setup) {
             return error_of(link_operation(loop, setup.file, "x", setup.file, "y"));
         }},
        {"symlinkat",
         IORING_OP_SYMLINKAT,
         {EACCES, EBADF, EDQUOT, EEXIST, EFAULT, EIO, ELOOP, ENAMETOOLONG, ENOENT, ENOMEM, ENOSPC,
          ENOTDIR, EPERM, EROFS},
         [](ring& loop, arguments& setup) {
             return error_of(symlink_operation(loop, "x", setup.file, "y"));
         }},
        {"unlinkat",
         IORING_OP_UNLINKAT,
         {EACCES, EBUSY, EFAULT, EIO, EISDIR, ELOOP, ENAMETOOLONG, ENOENT, ENOMEM, ENOTDIR, EPERM,
          EROFS, EBADF, EINVAL, ENOTEMPTY},
         [](ring& loop, arguments& setup) {
             return error_of(unlink_operation(loop, setup.file, "x"));
         }},
        {"mkdirat",
         IORING_OP_MKDIRAT,
         {EACCES, EBADF, EDQUOT, EEXIST, EFAULT, EINVAL, ELOOP, EMLINK, ENAMETOOLONG, ENOENT,
          ENOMEM, ENOSPC, ENOTDIR, EPERM, EROFS},
         [](ring& loop, arguments& setup) {
             return error_of(make_directory_operation(loop, setup.file, "x"));
         }},
        {"fgetxattr",
         IORING_OP_FGETXATTR,
         {E2BIG, ENODATA, ENOTSUP, ERANGE, EBADF, EACCES, EPERM},
         [](ring& loop, arguments& setup) {
             return error_of(get_attribute_operation(loop, setup.file, "user.x", setup.bytes));
         }},
        {"fsetxattr",
         IORING_OP_FSETXATTR,
         {EDQUOT, EEXIST, ENODATA, ENOSPC, ENOTSUP, EPERM, ERANGE, EBADF, EACCES, EROFS},
         [](ring& loop, arguments& setup) {
             return error_of(set_attribute_operation(loop, setup.file, "user.x", setup.bytes));
         }},
        {"splice",
         IORING_OP_SPLICE,
         {EBADF, EINVAL, ENOMEM, ESPIPE},
         [](ring& loop, arguments& setup) {
             return error_of(splice_operation(loop, setup.file, -1, setup.file, -1, 1, 0));
         }},
        {"tee",
         IORING_OP_TEE,
         {EINVAL, ENOMEM},
         [](ring& loop, arguments& setup) {
             return error_of(tee_operation(loop, setup.file, setup.file, 1));
         }},
        {"accept",
         IORING_OP_ACCEPT,
         {EBADF, ECONNABORTED, EFAULT, EINVAL, EMFILE, ENFILE, ENOBUFS, ENOMEM, ENOTSOCK,
          EOPNOTSUPP, EPERM, EPROTO},
         [](ring& loop, arguments& setup) {
             return error_of(accept_operation(loop, setup.file, nullptr, nullptr));
         }},
        {"connect",
         IORING_OP_CONNECT,
         {EACCES, EPERM, EADDRINUSE, EADDRNOTAVAIL, EAFNOSUPPORT, EALREADY, EBADF, ECONNREFUSED,
          EFAULT, EISCONN, ENETUNREACH, ENOTSOCK, EPROTOTYPE, ETIMEDOUT},
         [](ring& loop, arguments& setup) {
             return error_of(connect_operation(loop, setup.file,
                                               reinterpret_cast<const sockaddr*>(&setup.address),
                                               sizeof setup.address));
         }},
        {"recvmsg",
         IORING_OP_RECVMSG,
         {EBADF, ECONNREFUSED, EFAULT, EINVAL, ENOMEM, ENOTCONN, ENOTSOCK},
         [](ring& loop, arguments& setup) {
             return error_of(receive_message_operation(loop, setup.file, setup.message));
         }},
        {"sendmsg",
         IORING_OP_SENDMSG,
         {EACCES, EALREADY, EBADF, ECONNRESET, EDESTADDRREQ, EFAULT, EINVAL, EISCONN, EMSGSIZE,
          ENOBUFS, ENOMEM, ENOTCONN, ENOTSOCK, EOPNOTSUPP, EPIPE},
         [](ring& loop, arguments& setup) {
             return error_of(send_datagram_operation(loop, setup.file, setup.message));
         }},
    };
}

}  // namespace

TEST_CASE("each error that a manual page lists reaches the caller unchanged",
          "[runtime][operations]") {
    scripted_kernel script;
    ring loop({}, script);
    arguments setup;
    for (const row& each : rows()) {
        for (const int number : each.errors) {
            CAPTURE(each.name, number);
            script.fail(each.opcode, number);

            const auto error = run_on(loop, [&] { return each.await(loop, setup); });

            CHECK(error == std::error_code(number, std::system_category()));
        }
    }
}
