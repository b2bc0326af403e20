// result.hpp: a value or a std::error_code.
#pragma once

#include <kevring/runtime/detail/language.hpp>

#include <tl/expected.hpp>

#include <cerrno>
#include <cstdint>
#include <system_error>
#include <type_traits>
#include <utility>

namespace kevring {

/// The result of an operation: a T, or the error. Compare errors with conditions
/// (`r.error() == std::errc::timed_out`), never with numbers.
template <class T>
using result = tl::expected<T, std::error_code>;

/// The error of the kernel's result `res`, a negated errno.
inline tl::unexpected<std::error_code> error_from(std::int32_t res) noexcept {
    return tl::unexpected<std::error_code>(std::error_code(-res, std::system_category()));
}

/// The error of this thread's last failed call, from errno.
inline tl::unexpected<std::error_code> error_from_errno() noexcept { return error_from(-errno); }

/// A portable error as the failure of any result.
inline tl::unexpected<std::error_code> error_from(std::errc code) noexcept {
    return tl::unexpected<std::error_code>(std::make_error_code(code));
}

/// Returns the value, or throws the error as std::system_error: for programs that end at the first
/// failure. `what` names the failed action in the exception.
template <class T>
T value_or_throw(result<T>&& outcome, const char* what) {
    if (!outcome) throw std::system_error(outcome.error(), what);
    if constexpr (!std::is_void_v<T>) return std::move(*outcome);
}

}  // namespace kevring
