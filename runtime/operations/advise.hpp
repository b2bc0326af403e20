// advise.hpp: advice to the page cache about a part of a file.
#pragma once

#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/operation.hpp>

#include <cstdint>

namespace kevring {

/// Tells the kernel how a part of a file will be used; see posix_fadvise(2).
///
/// Errors     operation_canceled, timed_out; otherwise as for posix_fadvise(2).
/// Lifetime   `file` stays open until the await completes.
/// Kernel     IORING_OP_FADVISE, Linux 5.6. An io-wq thread of the kernel executes advice
///            that reads or drops pages.
class [[nodiscard]] advise_operation final : public operation {
public:
    /// `advice` as for posix_fadvise(2); a `count` of 0 means to the end of the file.
    advise_operation(ring& loop, fd_ref file, std::uint64_t file_offset, std::uint64_t count,
                     int advice, std::stop_token stop = {}) noexcept
        : operation(loop, std::move(stop)),
          file_(file),
          advice_(advice),
          file_offset_(file_offset),
          count_(count) {}

    [[nodiscard]] result<void> await_resume() const noexcept { return done_or_failure(); }
    void prepare(io_uring_sqe& sqe) noexcept override;

private:
    fd_ref file_;
    int advice_;
    std::uint64_t file_offset_;
    std::uint64_t count_;
};

}  // namespace kevring
