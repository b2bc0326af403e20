// xattr.hpp: requests that read and write extended attributes; see xattr(7).
#pragma once

#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/operation.hpp>

#include <cstddef>
#include <span>

namespace kevring {

/// Reads the value of an extended attribute.
///
/// Result     The number of bytes of the value; for an empty `buffer`, the number that the value has.
/// Errors     operation_canceled, timed_out; no_message_available (ENODATA) without the attribute;
///            result_out_of_range (ERANGE) for a buffer that is too small; otherwise as for
///            getxattr(2).
/// Lifetime   `file` stays open; `path`, `name` and `buffer` stay valid until the await completes.
/// Kernel     IORING_OP_FGETXATTR and IORING_OP_GETXATTR, Linux 5.19; an io-wq thread of the kernel
///            always executes them.
class [[nodiscard]] get_attribute_operation final : public operation {
public:
    get_attribute_operation(ring& loop, fd_ref file, const char* name, std::span<std::byte> buffer,
                            std::stop_token stop = {}) noexcept
        : operation(loop, std::move(stop)), file_(file), name_(name), buffer_(buffer) {}
    /// Follows symbolic links; a relative path is one below the working directory.
    get_attribute_operation(ring& loop, const char* path, const char* name,
                            std::span<std::byte> buffer, std::stop_token stop = {}) noexcept
        : operation(loop, std::move(stop)), path_(path), name_(name), buffer_(buffer) {}

    [[nodiscard]] result<std::size_t> await_resume() const noexcept { return count_or_failure(); }
    void prepare(io_uring_sqe& sqe) noexcept override;

private:
    fd_ref file_;
    const char* path_ = nullptr;
    const char* name_;
    std::span<std::byte> buffer_;
};

/// Writes the value of an extended attribute; see get_attribute_operation for lifetimes and kernels.
///
/// Errors     operation_canceled, timed_out, and the kernel may have written it; otherwise as for
///            setxattr(2).
/// Kernel     IORING_OP_FSETXATTR and IORING_OP_SETXATTR, Linux 5.19.
class [[nodiscard]] set_attribute_operation final : public operation {
public:
    /// `flags` as for setxattr(2): 0, XATTR_CREATE or XATTR_REPLACE.
    set_attribute_operation(ring& loop, fd_ref file, const char* name,
                            std::span<const std::byte> value, int flags = 0,
                            std::stop_token stop = {}) noexcept
        : operation(loop, std::move(stop)),
          file_(file),
          flags_(flags),
          name_(name),
          value_(value) {}
    set_attribute_operation(ring& loop, const char* path, const char* name,
                            std::span<const std::byte> value, int flags = 0,
                            std::stop_token stop = {}) noexcept
        : operation(loop, std::move(stop)),
          flags_(flags),
          path_(path),
          name_(name),
          value_(value) {}

    [[nodiscard]] result<void> await_resume() const noexcept { return done_or_failure(); }
    void prepare(io_uring_sqe& sqe) noexcept override;

private:
    fd_ref file_;
    int flags_;
    const char* path_ = nullptr;
    const char* name_;
    std::span<const std::byte> value_;
};

}  // namespace kevring
