#include <kevring/runtime/operations/statx.hpp>

#include <kevring/runtime/detail/uring.hpp>

#include <sys/stat.h>

namespace kevring {

void statx_operation::prepare(io_uring_sqe& sqe) noexcept {
    io_uring_prep_statx(&sqe, directory_.number(), path_, flags_, mask_, status_);
}

result<void> file_status(ring& loop, fd_ref file, struct stat& status) noexcept {
    const int status_result = loop.system().stat_file(file.number(), status);
    if (status_result < 0) return error_from(status_result);
    return {};
}

}  // namespace kevring
