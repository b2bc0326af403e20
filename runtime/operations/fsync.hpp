// fsync.hpp: a file's bytes onto its disk.
#pragma once

#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/operation.hpp>

namespace kevring {

/// What is to be on the disk.
enum class sync_scope { data_and_metadata, data };

/// Waits until what was written to a file is on its disk.
///
/// Errors     operation_canceled; io_error, which the kernel reports once; else those of fsync(2).
/// Lifetime   `file` stays open until the await ends.
/// Kernel     IORING_OP_FSYNC, Linux 5.1; done by a worker thread of the kernel.
class [[nodiscard]] fsync_operation final : public operation {
public:
    fsync_operation(ring& on, fd_ref file, sync_scope what = sync_scope::data_and_metadata,
                    std::stop_token stop = {}) noexcept
        : operation(on, std::move(stop)), file_(file), what_(what) {}

    [[nodiscard]] result<void> await_resume() const noexcept { return done_or_failure(); }
    void prepare(io_uring_sqe& sqe) noexcept override;

private:
    fd_ref file_;
    sync_scope what_;
};

}  // namespace kevring
