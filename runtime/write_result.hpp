// write_result.hpp: the result of a write of all bytes, and the number of bytes before an error.
#pragma once

#include <kevring/runtime/result.hpp>

#include <cstddef>
#include <system_error>
#include <utility>

namespace kevring {

/// The result of a write of all bytes: success, or an error. With an error, bytes_written() is the number
/// of bytes that the kernel accepted before it. A program that continues after a stop or a deadline writes
/// the rest from there.
class [[nodiscard]] write_result : public result<void> {
public:
    explicit write_result(std::size_t bytes_written) noexcept : bytes_written_(bytes_written) {}
    write_result(tl::unexpected<std::error_code> error, std::size_t bytes_written) noexcept
        : result<void>(std::move(error)), bytes_written_(bytes_written) {}

    /// The bytes that the kernel accepted, with or without an error.
    std::size_t bytes_written() const noexcept { return bytes_written_; }

private:
    std::size_t bytes_written_;
};

}  // namespace kevring
