// fsync.hpp: waits until a file's data is on stable storage.
#pragma once

#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/operation.hpp>

namespace kevring {

/// The part of a file that fsync_operation waits for.
enum class sync_scope { data_and_metadata, data };

/// Waits until all data written to a file is on stable storage.
///
/// Errors     operation_canceled; io_error, which the kernel reports once; otherwise as
///            for fsync(2).
/// Lifetime   `file` stays open until the await completes.
/// Kernel     IORING_OP_FSYNC, Linux 5.1; executed by an io-wq thread of the kernel.
class [[nodiscard]] fsync_operation final : public operation {
public:
    fsync_operation(ring& loop, fd_ref file, sync_scope scope = sync_scope::data_and_metadata,
                    std::stop_token stop = {}) noexcept
        : operation(loop, std::move(stop)), file_(file), scope_(scope) {}

    [[nodiscard]] result<void> await_resume() const noexcept { return done_or_failure(); }
    void prepare(io_uring_sqe& sqe) noexcept override;

private:
    fd_ref file_;
    sync_scope scope_;
};

}  // namespace kevring
