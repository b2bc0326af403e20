// send_report.hpp: what became of a transfer: bytes, paths, reasons, and the error that ended it.
#pragma once

#include <kevring/runtime/detail/language.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <system_error>
#include <type_traits>

namespace kevring {

/// The ways that file bytes take into a socket.
enum class send_path : std::uint8_t {
    send,       // read behind the header, all in one send
    sendfile,   // sendfile(2) in bounded turns, while the bytes are in the page cache
    read_send,  // read by the ring into a buffer, the next part while this one is sent
    splice,     // through a pipe, filled by a worker thread of the kernel
    zero_copy,  // read by the ring, sent without a copy where the network device can
};
inline constexpr std::size_t send_path_count = 5;

/// Why a path was taken.
enum class send_reason : std::uint8_t {
    none,          // no byte of the file has been sent
    small,         // header, body and trailer fit one send
    resident,      // the bytes are in the page cache
    not_resident,  // a disk would have to be waited for, or nobody can tell
    copy_wanted,   // send_options::by_copy
    asked_for,     // send_options::zero_copy_bytes_min
    forced,        // send_options::path, or KEVRING_SEND_PATH in the environment
    refused,       // a path that comes first does not work on these descriptors, or here
};

/// The name of a path, as KEVRING_SEND_PATH has it.
std::string_view name_of(send_path path) noexcept;
std::string_view name_of(send_reason reason) noexcept;

/// What a file can do to a transfer that no errno stands for.
enum class send_errc {
    file_shrank = 1,  // the file ends before the last byte that was asked for
    file_changed,     // the file was written while it was sent, or is not the one expected
};
std::error_code make_error_code(send_errc code) noexcept;

/// What a transfer has done.
///
/// After an error the stream has stopped in the middle of the `bytes_sent`-th byte's message: close
/// the connection, as whatever follows would be taken for the rest of the file.
struct send_report {
    std::uint64_t bytes_sent = 0;  // header, file and trailer, as far as the kernel took them
    std::uint64_t file_bytes = 0;  // of them, those of the file
    std::error_code error;         // none: all was sent

    /// File bytes by path, and the reason of each path's last use.
    std::array<std::uint64_t, send_path_count> path_bytes{};
    std::array<send_reason, send_path_count> path_reasons{};
    /// How often the path changed between the first byte and the last.
    std::uint32_t path_changes = 0;
    /// The kernel copied what zero_copy asked it not to copy, as it does on loopback.
    bool kernel_copied = false;
    /// File bytes that zero_copy has sent from buffers registered with the ring. Where they are
    /// fewer than its `path_bytes`, the rest came from plain memory: all those buffers were in use,
    /// or the kernel has refused them, by RLIMIT_MEMLOCK as a rule (ring::fixed_buffers() says).
    std::uint64_t registered_bytes = 0;

    std::uint64_t bytes_by(send_path path) const noexcept {
        return path_bytes[static_cast<std::size_t>(path)];
    }
    /// The path that carried most of the file.
    send_path path() const noexcept;
    send_reason reason() const noexcept { return path_reasons[static_cast<std::size_t>(path())]; }
    /// True when all was sent.
    explicit operator bool() const noexcept { return !error; }
};

}  // namespace kevring

template <>
struct std::is_error_code_enum<kevring::send_errc> : std::true_type {};
