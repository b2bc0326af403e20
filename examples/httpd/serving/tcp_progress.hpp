// tcp_progress.hpp: how much of what was sent has reached the peer.
#pragma once

#include <kevring/runtime/fd.hpp>

#include <cstdint>
#include <optional>

namespace httpd {

/// The bytes that the peer's host has taken since the connection began. Nothing where nobody counts
/// them, as for Unix sockets.
std::optional<std::uint64_t> acked_bytes(kevring::fd_ref socket) noexcept;

/// At least the bytes that wait in the socket for the peer; 0 where nobody knows.
std::uint64_t send_queue_bytes(kevring::fd_ref socket) noexcept;

}  // namespace httpd
