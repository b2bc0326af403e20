// open.hpp: opens a path as a descriptor, and closes a descriptor.
#pragma once

#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/operation.hpp>

#include <cstdint>

#include <sys/types.h>

namespace kevring {

/// Opens a path below `directory`.
///
/// Result     The descriptor, closed on exec.
/// Errors     operation_canceled, timed_out; otherwise as for openat2(2).
/// Lifetime   `path` is a C string that stays valid until the await completes.
/// Kernel     IORING_OP_OPENAT2, Linux 5.6. An io-wq thread of the kernel executes it if the
///            path is not in the dentry cache, so that the loop never waits for a disk.
class [[nodiscard]] open_operation final : public operation {
public:
    /// `flags` as for open(2); `resolve` as for openat2(2), such as RESOLVE_BENEATH.
    open_operation(ring& loop, fd_ref directory, const char* path, int flags, mode_t mode = 0,
                   std::uint64_t resolve = 0, std::stop_token stop = {}) noexcept;

    /// The caller owns the descriptor.
    [[nodiscard]] result<fd> await_resume() noexcept;
    void prepare(io_uring_sqe& sqe) noexcept override;

private:
    struct how {  // the layout of open_how, without <linux/openat2.h> in a public header
        std::uint64_t flags;
        std::uint64_t mode;
        std::uint64_t resolve;
    };
    fd_ref directory_;
    const char* path_;
    how how_;
};

/// Closes a descriptor without blocking the loop: close(2) may block for a socket with unsent data
/// or for a file of a network file system.
///
/// Errors     Those of close(2); operation_canceled if the scope was already stopped. The
///            descriptor is closed in every case.
/// Kernel     IORING_OP_CLOSE, Linux 5.6.
class [[nodiscard]] close_operation final : public operation {
public:
    close_operation(ring& loop, fd file) noexcept;

    [[nodiscard]] result<void> await_resume() const noexcept { return done_or_failure(); }
    void prepare(io_uring_sqe& sqe) noexcept override;

private:
    fd file_;
};

}  // namespace kevring
