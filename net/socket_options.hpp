// socket_options.hpp: options of a TCP connection, for one socket or for all of a listener.
#pragma once

#include <kevring/runtime/clock.hpp>
#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/result.hpp>

#include <cstddef>
#include <optional>
#include <string_view>
#include <type_traits>

namespace kevring {

/// An empty option leaves the default of the system.
struct socket_options {
    /// Sends small messages at once instead of waiting for the last one's acknowledgement.
    std::optional<bool> no_delay = std::nullopt;
    /// Probes a peer that has been silent for this time; zero turns probes off. Whole seconds; the
    /// kernel's limit of 32767 s stands for more.
    std::optional<clamped_duration> keep_alive = std::nullopt;
    /// The kernel's name of an algorithm: "reno", "cubic", "bbr". A view, so that g++ 12 can take
    /// the options as a temporary in an await; it stays valid until they have been set.
    std::optional<std::string_view> congestion_control = std::nullopt;
    /// Bytes; the kernel doubles them for its own use, and bounds them (socket(7)).
    std::optional<std::size_t> send_buffer_bytes = std::nullopt;
    std::optional<std::size_t> receive_buffer_bytes = std::nullopt;
    /// Gives up on a peer that acknowledges nothing for this time; at most INT_MAX milliseconds.
    std::optional<clamped_duration> user_timeout = std::nullopt;
};
static_assert(std::is_trivially_copyable_v<socket_options>);

/// Sets the options that have a value; those of TCP are skipped for a Unix socket.
///
/// Errors     invalid_argument for a negative time; else those of setsockopt(2) for the first that
///            fails; no_such_file_or_directory for an algorithm that the kernel does not have.
result<void> set_options(fd_ref socket, const socket_options& options) noexcept;

}  // namespace kevring
