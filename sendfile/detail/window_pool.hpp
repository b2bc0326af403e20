// window_pool.hpp: large buffers for file bytes, recycled per thread.
#pragma once

#include <kevring/runtime/detail/language.hpp>

#include <cstddef>
#include <span>
#include <utility>

namespace kevring::detail {

/// The largest part of a file that a transfer holds in memory.
inline constexpr std::size_t window_bytes = 256 * 1024;
/// The part of a file in the page cache that one call of sendfile(2) sends, and one transfer in one
/// loop iteration: about as much as a socket holds (tcp_wmem of 4 MiB), so that a call fills it.
/// Smaller parts cost more: each call ends a TCP segment early, and each iteration polls the socket
/// (docs/design/0050-sendfile.md).
inline constexpr std::size_t sendfile_window_bytes = 2 * 1024 * 1024;
/// The largest file that is sent together with its header, in one send.
inline constexpr std::size_t small_file_bytes = 32 * 1024;
/// Bytes of a small buffer for header and trailer, in addition to the file.
inline constexpr std::size_t header_trailer_bytes = 4 * 1024;

/// A buffer of one of two sizes. Returns itself to the free list of its thread on destruction.
///
/// Thread     The loop's thread.
class window_buffer {
public:
    enum class size_class : unsigned char { small, window };

    window_buffer() noexcept = default;
    /// Errors     Throws std::bad_alloc.
    explicit window_buffer(size_class size);
    window_buffer(window_buffer&& from) noexcept
        : data_(std::exchange(from.data_, nullptr)), size_(from.size_) {}
    window_buffer& operator=(window_buffer&& from) noexcept {
        std::swap(data_, from.data_);
        std::swap(size_, from.size_);
        return *this;
    }
    ~window_buffer();

    static constexpr std::size_t bytes_of(size_class size) noexcept {
        return size == size_class::small ? small_file_bytes + header_trailer_bytes : window_bytes;
    }
    std::span<std::byte> bytes() const noexcept { return {data_, bytes_of(size_)}; }
    explicit operator bool() const noexcept { return data_ != nullptr; }

    /// Buffers of this thread in use; for tests.
    static std::size_t in_use_count() noexcept;

private:
    std::byte* data_ = nullptr;
    size_class size_ = size_class::small;
};

}  // namespace kevring::detail
