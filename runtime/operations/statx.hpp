// statx.hpp: the status of a file.
#pragma once

#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/operation.hpp>

struct statx;
struct stat;

namespace kevring {

/// Queries the status of a path.
///
/// Errors     operation_canceled, timed_out; otherwise as for statx(2).
/// Lifetime   `path` and `status` stay valid until the await completes.
/// Kernel     IORING_OP_STATX, Linux 5.6; an io-wq thread of the kernel always executes it, which
///            costs about 5 us. For an open file, file_status() is cheaper.
class [[nodiscard]] statx_operation final : public operation {
public:
    /// `flags` and `mask` as for statx(2).
    statx_operation(ring& loop, fd_ref directory, const char* path, int flags, unsigned mask,
                    struct statx& status, std::stop_token stop = {}) noexcept
        : operation(loop, std::move(stop)),
          directory_(directory),
          path_(path),
          flags_(flags),
          mask_(mask),
          status_(&status) {
        KEVRING_ASSERT(path != nullptr, "statx of a null path; pass a path");
    }

    [[nodiscard]] result<void> await_resume() const noexcept { return done_or_failure(); }
    void prepare(io_uring_sqe& sqe) noexcept override;

private:
    fd_ref directory_;
    const char* path_;
    int flags_;
    unsigned mask_;
    struct statx* status_;
};

/// Queries the status of an open file by a direct fstat(2), which does not block: the inode is in
/// memory.
///
/// Errors     As for fstat(2).
result<void> file_status(ring& loop, fd_ref file, struct stat& status) noexcept;

}  // namespace kevring
