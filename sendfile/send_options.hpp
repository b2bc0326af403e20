// send_options.hpp: what goes with a file, and how it is to be sent.
#pragma once

#include <kevring/sendfile/send_report.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

struct stat;

namespace kevring {

class send_order;

/// A sequence of buffers that someone else owns: one, or a list of them.
class send_buffers {
public:
    send_buffers() noexcept = default;
    send_buffers(std::span<const std::byte> one) noexcept : one_(one) {}
    send_buffers(std::string_view text) noexcept : one_(std::as_bytes(std::span(text))) {}
    send_buffers(const char* text) noexcept : send_buffers(std::string_view(text)) {}
    send_buffers(std::span<const std::span<const std::byte>> several) noexcept
        : several_(several) {}

    std::size_t size() const noexcept { return several_.empty() ? 1 : several_.size(); }
    std::span<const std::byte> operator[](std::size_t index) const noexcept {
        return several_.empty() ? one_ : several_[index];
    }
    /// The bytes of all buffers; SIZE_MAX where no number can hold the sum.
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

/// Size and time of a file: what tells one version of it from another.
struct file_version {
    std::uint64_t byte_count = 0;
    std::int64_t modified_ns = 0;  // since 1970

    static file_version of(const struct stat& status) noexcept;
    friend bool operator==(const file_version&, const file_version&) noexcept = default;
};

/// What was lately seen of a file: to ask about one that is sent all the time would cost as much as
/// 16 KiB of it. Kept beside an open file and its expected version by who sends it often.
///
/// Thread     That of one ring.
class file_memo {
public:
    /// Whether the window at `file_offset` was seen in the page cache a moment ago.
    bool holds(std::uint64_t file_offset, std::int64_t now_ns) const noexcept;
    /// The window at `file_offset` was seen: a whole one, or the last of the file.
    void note(std::uint64_t file_offset, std::int64_t now_ns) noexcept;

    /// Whether the file was seen in its expected version at this moment of the loop, as transfers
    /// count them: it has heard of nothing since.
    bool unchanged_at(std::uint64_t moment) const noexcept { return seen_at_ == moment; }
    void note_unchanged(std::uint64_t moment) noexcept { seen_at_ = moment; }

private:
    std::uint64_t seen_at_ = ~std::uint64_t{0};
    // By window, for the first 16 MiB; milliseconds, which may wrap round.
    std::array<std::uint32_t, 64> seen_ms_{};
};

/// What the page cache should expect of a transfer (posix_fadvise(2)).
enum class cache_hint : std::uint8_t {
    none,
    sequential,  // the whole range will be read, in order: read further ahead
    will_need,   // begin to read the range from the disk now
    drop_after,  // nobody will ask again: forget the range when it has been sent
};

/// Lifetime   Copied by the transfer; the bytes of header and trailer stay valid, and `order`
///            lives, until its await ends.
struct send_options {
    /// Sent before and after the file, contiguous with it.
    send_buffers header;
    send_buffers trailer;

    /// Bytes a second that the transfer keeps below, on average; 0: as fast as it goes.
    std::uint64_t bytes_per_second_max = 0;
    cache_hint hint = cache_hint::none;

    /// The version of the file that the header describes: another one is file_changed, found before
    /// the last byte is sent. Without it, the version that is there at the beginning, for files
    /// that need more than one step.
    std::optional<file_version> expected;
    /// Used and kept up to date, for transfers with an expected version.
    file_memo* memo = nullptr;
    /// A file that has grown is in order as long as the range was there: for logs.
    bool may_grow = false;
    /// A range that goes beyond the end of the file ends there, also when the file becomes shorter
    /// on the way and none is `expected`; otherwise it is file_shrank.
    bool stop_at_end = false;

    /// The socket has O_NONBLOCK, and keeps it: it is not asked. Where that is not so, the loop
    /// waits for the peer.
    bool is_nonblocking = false;
    /// A socket that is blocking stays so: sendfile and splice are for others then. For sockets
    /// whose owner writes to them by write(2) as well.
    bool keep_blocking = false;
    /// Never by reference to the page cache: what is written to the file once its last bytes have
    /// been read cannot reach the peer. Excludes sendfile and splice.
    bool by_copy = false;
    /// From how many bytes on zero_copy is tried; 0: never. It pays from about a mebibyte, and with
    /// a network device that can do it.
    /// It locks memory: up to 4 MiB for each ring, for good (see ring::fixed_buffers()).
    std::uint64_t zero_copy_bytes_min = 0;
    /// Takes this path wherever it works, whatever the page cache holds. KEVRING_SEND_PATH in the
    /// environment does the same for a whole program.
    std::optional<send_path> path;

    /// Keeps transfers on one socket one after another.
    send_order* order = nullptr;
};

}  // namespace kevring
