// send_options.hpp: options of a transfer: header and trailer, rate, version, path.
#pragma once

#include <kevring/runtime/byte_views.hpp>
#include <kevring/sendfile/send_report.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

struct stat;

namespace kevring {

class send_queue;

/// Refers to one buffer or to a list of buffers that the caller owns.
class send_buffers {
public:
    send_buffers() noexcept = default;
    send_buffers(std::span<const std::byte> one) noexcept : one_(one) {}
    send_buffers(std::string_view text) noexcept : one_(std::as_bytes(std::span(text))) {}
    send_buffers(const char* text) noexcept : send_buffers(std::string_view(text)) {}
    template <byte_view Bytes>
    send_buffers(const Bytes& one) noexcept : one_(bytes_of(one)) {}
    send_buffers(std::span<const std::span<const std::byte>> several) noexcept
        : several_(several) {}

    std::size_t size() const noexcept { return several_.empty() ? 1 : several_.size(); }
    std::span<const std::byte> operator[](std::size_t index) const noexcept {
        return several_.empty() ? one_ : several_[index];
    }
    /// The number of bytes in all buffers; SIZE_MAX if the sum is larger.
    std::size_t byte_count() const noexcept {
        std::size_t bytes = 0;
        for (std::size_t i = 0; i < size(); ++i) {
            const std::size_t more = (*this)[i].size();
            if (more > SIZE_MAX - bytes) return SIZE_MAX;
            bytes += more;
        }
        return bytes;
    }

private:
    std::span<const std::byte> one_;
    std::span<const std::span<const std::byte>> several_;
};

/// Size and modification time of a file: distinguishes versions of it.
struct file_version {
    std::uint64_t byte_count = 0;
    std::int64_t modified_ns = 0;  // since the epoch

    static file_version from_stat(const struct stat& status) noexcept;
    friend bool operator==(const file_version&, const file_version&) noexcept = default;
};

/// Recent state of a file: which parts are in the page cache, and whether its version is unchanged.
/// Queries for a file that is sent often would cost as much as sending 16 KiB of it. The caller
/// stores one with each open file and its expected version.
///
/// Thread     The thread of one loop.
class file_state_cache {
public:
    /// True if the window at `file_offset` was in the page cache at most 10 ms before `now_ns`.
    bool is_resident(std::uint64_t file_offset, std::int64_t now_ns) const noexcept;
    /// Records that the window at `file_offset`, of full size or up to the end of the file, is in
    /// the page cache.
    void record_resident(std::uint64_t file_offset, std::int64_t now_ns) noexcept;

    /// True if the file had its expected version in this generation of the loop (ring::moment()):
    /// the loop has observed no event since.
    bool unchanged_since(std::uint64_t generation) const noexcept { return seen_at_ == generation; }
    void record_unchanged(std::uint64_t generation) noexcept { seen_at_ = generation; }

private:
    std::uint64_t seen_at_ = ~std::uint64_t{0};
    // By 256 KiB, for the first 16 MiB; milliseconds, which may wrap around.
    std::array<std::uint32_t, 64> seen_ms_{};
};

/// Advice to the page cache (posix_fadvise(2)).
enum class cache_hint : std::uint8_t {
    none,
    sequential,  // the whole range will be read, in order: read further ahead
    will_need,   // begin to read the range from the disk now
    drop_after,  // no further read is expected: drop the range after it was sent
};

/// Lifetime   The transfer copies the options. The bytes of header and trailer, `state_cache` and
///            `queue` stay valid until its await completes.
struct send_options {
    /// Sent before and after the file, contiguous with it.
    send_buffers header;
    send_buffers trailer;

    /// Limit of the average rate since the begin of the transfer, in bytes per second; 0: no limit.
    std::uint64_t bytes_per_second_max = 0;
    cache_hint hint = cache_hint::none;

    /// The version of the file that the header describes. Another version ends the transfer with
    /// file_changed before the last byte is sent. Without it, a transfer of several steps expects
    /// the version at its begin.
    std::optional<file_version> expected;
    /// Read and updated by transfers with an expected version; null: every transfer queries.
    file_state_cache* state_cache = nullptr;
    /// Accepts a file that has grown, as logs do.
    bool allow_growth = false;
    /// Ends the range at the end of the file, also if the file becomes shorter in the meantime and
    /// no version is `expected`; otherwise such a transfer ends with file_shrank.
    bool stop_at_eof = false;

    /// The socket has O_NONBLOCK, and keeps it: saves a system call. If that is wrong, the loop
    /// waits for the peer.
    bool is_nonblocking = false;
    /// Leaves a blocking socket blocking, which excludes sendfile and splice: for sockets to which
    /// their owner also writes by write(2).
    bool keep_blocking = false;
    /// Reads the bytes into memory before it sends them, so that a later write to the file cannot
    /// reach the peer. Excludes sendfile and splice.
    bool force_copy = false;
    /// The smallest range for which zero_copy is tried; 0: never. It saves time from about 1 MiB
    /// on, and only with a network device that supports it. It locks up to 4 MiB of memory per ring,
    /// until the ring ends (see fixed_buffer_pool).
    std::uint64_t zero_copy_bytes_min = 0;
    /// Selects this path wherever it works, regardless of the page cache. The environment variable
    /// KEVRING_SEND_PATH does the same for a whole program.
    std::optional<send_path> path;

    /// Serializes the transfers on one socket; null: the caller does.
    send_queue* queue = nullptr;
};

}  // namespace kevring
