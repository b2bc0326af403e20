// result.hpp: a value or a std::error_code.
#pragma once

#include <tl/expected.hpp>

#include <cerrno>
#include <cstdint>
#include <system_error>
#include <type_traits>
#include <utility>

namespace kevring {

/// What an operation answers: a T, or why there is none. Compare errors with conditions
/// (`r.error() == std::errc::timed_out`), never with numbers.
template <class T>
using result = tl::expected<T, std::error_code>;

/// The error that the kernel's answer `res`, a negated errno, stands for.
inline tl::unexpected<std::error_code> error_from(std::int32_t res) noexcept {
    return tl::unexpected<std::error_code>(std::error_code(-res, std::system_category()));
}

/// The error that the last failed call of this thread left in errno.
inline tl::unexpected<std::error_code> error_from_errno() noexcept { return error_from(-errno); }

/// A portable error as the failure of any result.
inline tl::unexpected<std::error_code> error_from(std::errc code) noexcept {
    return tl::unexpected<std::error_code>(std::make_error_code(code));
}

/// The value, or its error thrown as std::system_error: for programs that end at the first failure.
template <class T>
T value_or_throw(result<T>&& from, const char* what) {
    if (!from) throw std::system_error(from.error(), what);
    if constexpr (!std::is_void_v<T>) return std::move(*from);
}

}  // namespace kevring
