// send_report.hpp: the result of a transfer: bytes, paths, reasons, and the error that ended it.
#pragma once

#include <kevring/runtime/detail/language.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <system_error>
#include <type_traits>

namespace kevring {

/// The paths of file bytes to a socket.
enum class send_path : std::uint8_t {
    send,       // read into memory after the header, all in one send
    sendfile,   // sendfile(2) in bounded steps, while the bytes are in the page cache
    read_send,  // the ring reads the next part into a buffer while it sends this one
    splice,     // through a pipe that a worker thread of the kernel fills
    zero_copy,  // read by the ring, sent without a copy if the network device supports it
};
inline constexpr std::size_t send_path_count = 5;

/// Why a path was selected.
enum class send_reason : std::uint8_t {
    none,           // no byte of the file has been sent
    small,          // header, body and trailer fit one send
    resident,       // the bytes are in the page cache
    not_resident,   // the kernel would wait for a disk, or does not report residency
    copy_required,  // send_options::force_copy
    requested,      // send_options::zero_copy_bytes_min
    forced,         // send_options::path, or KEVRING_SEND_PATH in the environment
    fallback,       // a preferred path does not work with these descriptors or this kernel
};

/// The name of a path, as in KEVRING_SEND_PATH.
std::string_view name_of(send_path path) noexcept;
std::string_view name_of(send_reason reason) noexcept;

/// Failures of a file that have no errno.
enum class send_errc {
    file_shrank = 1,  // the file ends before the last byte of the range
    file_changed,     // the file was written while it was sent, or is not the expected version
};
std::error_code make_error_code(send_errc code) noexcept;

/// The result of a transfer.
///
/// After an error with `bytes_sent` above 0 the stream contains a truncated message: close the
/// connection, because the peer would read further bytes as the rest of the file.
struct send_report {
    std::uint64_t bytes_sent = 0;  // of header, file and trailer, accepted by the kernel
    std::uint64_t file_bytes = 0;  // of the file alone
    std::error_code error;         // none: all bytes were sent

    /// File bytes per path, and the reason of its last use.
    std::array<std::uint64_t, send_path_count> path_bytes{};
    std::array<send_reason, send_path_count> path_reasons{};
    /// Changes of the path between the first and the last byte.
    std::uint32_t path_changes = 0;
    /// The kernel copied bytes that zero_copy sent, as it does on loopback.
    bool kernel_copied = false;
    /// File bytes that zero_copy sent from buffers registered with the ring. If they are fewer than
    /// its `path_bytes`, the rest was in plain memory: all buffers were in use, or the kernel refused
    /// to register them, in general because of RLIMIT_MEMLOCK (see fixed_buffer_pool).
    std::uint64_t registered_bytes = 0;

    std::uint64_t bytes_by(send_path path) const noexcept {
        return path_bytes[static_cast<std::size_t>(path)];
    }
    /// The path of most bytes of the file.
    send_path path() const noexcept;
    send_reason reason() const noexcept { return path_reasons[static_cast<std::size_t>(path())]; }
    /// True if all bytes were sent.
    explicit operator bool() const noexcept { return !error; }
};

}  // namespace kevring

template <>
struct std::is_error_code_enum<kevring::send_errc> : std::true_type {};
