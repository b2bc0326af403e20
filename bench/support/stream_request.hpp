// bench/support/stream_request.hpp: the requests and the buffers of the streams on liburing.
#pragma once

#include <cstdint>

namespace kevring::bench {

enum class tag : std::uint64_t { accept, receive, send };

/// The user data of a request for `fd`.
constexpr std::uint64_t label(tag what, int fd) {
    return static_cast<std::uint64_t>(what) << 32 | static_cast<std::uint32_t>(fd);
}

/// 4 MiB of small buffers, and never fewer than 256.
constexpr unsigned count_of_buffers(unsigned buffer_bytes) {
    unsigned count = 256;
    while (count < 1024 && std::uint64_t{count} * buffer_bytes < 4U << 20) count *= 2;
    return count;
}

}  // namespace kevring::bench
