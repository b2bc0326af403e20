#include <kevring/runtime/operations/path.hpp>

#include <kevring/runtime/detail/uring.hpp>

namespace kevring {

void rename_operation::prepare(io_uring_sqe& sqe) noexcept {
    io_uring_prep_renameat(&sqe, source_directory_.number(), source_, target_directory_.number(),
                           target_, flags_);
}

void link_operation::prepare(io_uring_sqe& sqe) noexcept {
    io_uring_prep_linkat(&sqe, source_directory_.number(), source_, target_directory_.number(),
                         target_, flags_);
}

void symlink_operation::prepare(io_uring_sqe& sqe) noexcept {
    io_uring_prep_symlinkat(&sqe, target_, directory_.number(), path_);
}

void unlink_operation::prepare(io_uring_sqe& sqe) noexcept {
    io_uring_prep_unlinkat(&sqe, directory_.number(), path_, flags_);
}

void make_directory_operation::prepare(io_uring_sqe& sqe) noexcept {
    io_uring_prep_mkdirat(&sqe, directory_.number(), path_, permissions_);
}

}  // namespace kevring
