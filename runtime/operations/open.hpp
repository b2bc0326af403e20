// open.hpp: a descriptor for a path, and its end.
#pragma once

#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/operation.hpp>

#include <cstdint>

#include <sys/types.h>

namespace kevring {

/// Opens a path below `directory`.
///
/// Result     The descriptor, closed on exec.
/// Errors     operation_canceled, timed_out; else those of openat2(2).
/// Lifetime   `path` is a C string that stays valid until the await ends.
/// Kernel     IORING_OP_OPENAT2, Linux 5.6. A worker thread of the kernel does it where the path is
///            not in the directory cache, so the loop never waits for a disk.
class [[nodiscard]] open_operation final : public operation {
public:
    /// `flags` as for open(2); `resolve` as for openat2(2), such as RESOLVE_BENEATH.
    open_operation(ring& on, fd_ref directory, const char* path, int flags, mode_t mode = 0,
                   std::uint64_t resolve = 0, std::stop_token stop = {}) noexcept;

    /// The descriptor is the caller's from here on.
    [[nodiscard]] result<fd> await_resume() noexcept;
    void prepare(io_uring_sqe& sqe) noexcept override;

private:
    struct how {  // the layout of open_how, which <linux/openat2.h> would drag in
        std::uint64_t flags;
        std::uint64_t mode;
        std::uint64_t resolve;
    };
    fd_ref directory_;
    const char* path_;
    how how_;
};

/// Closes a descriptor without holding up the loop; close(2) of a socket with unsent data, or of a
/// file on a network, may take its time.
///
/// Errors     Those of close(2); operation_canceled where the scope had been stopped before. The
///            descriptor is gone in any case.
/// Kernel     IORING_OP_CLOSE, Linux 5.6.
class [[nodiscard]] close_operation final : public operation {
public:
    close_operation(ring& on, fd file) noexcept;

    [[nodiscard]] result<void> await_resume() const noexcept { return done_or_failure(); }
    void prepare(io_uring_sqe& sqe) noexcept override;

private:
    fd file_;
};

}  // namespace kevring
