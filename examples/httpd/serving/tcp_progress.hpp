// tcp_progress.hpp: the progress of a connection's sent bytes.
#pragma once

#include <kevring/runtime/fd.hpp>

#include <cstdint>
#include <optional>

namespace httpd {

/// The bytes that the peer's host has acknowledged since the connection began. Nothing if the
/// kernel does not count them, as for Unix sockets.
std::optional<std::uint64_t> acked_bytes(kevring::fd_ref socket) noexcept;

/// At least the bytes that are queued in the socket for the peer; 0 if that is unknown.
std::uint64_t send_queue_bytes(kevring::fd_ref socket) noexcept;

}  // namespace httpd
