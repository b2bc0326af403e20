#include <kevring/runtime/operations/xattr.hpp>

#include <kevring/runtime/detail/byte_count.hpp>
#include <kevring/runtime/detail/uring.hpp>

namespace kevring {

void get_attribute_operation::prepare(io_uring_sqe& sqe) noexcept {
    auto* const buffer = reinterpret_cast<char*>(buffer_.data());
    const unsigned byte_count = detail::byte_count(buffer_.size());
    if (path_ != nullptr)
        io_uring_prep_getxattr(&sqe, name_, buffer, path_, byte_count);
    else
        io_uring_prep_fgetxattr(&sqe, file_.number(), name_, buffer, byte_count);
}

void set_attribute_operation::prepare(io_uring_sqe& sqe) noexcept {
    const auto* const value = reinterpret_cast<const char*>(value_.data());
    const unsigned byte_count = detail::byte_count(value_.size());
    if (path_ != nullptr)
        io_uring_prep_setxattr(&sqe, name_, value, path_, flags_, byte_count);
    else
        io_uring_prep_fsetxattr(&sqe, file_.number(), name_, value, flags_, byte_count);
}

}  // namespace kevring
