// connect.hpp: dials an endpoint.
#pragma once

#include <kevring/net/endpoint.hpp>
#include <kevring/net/socket.hpp>
#include <kevring/net/socket_options.hpp>
#include <kevring/runtime/task.hpp>

#include <optional>
#include <type_traits>

namespace kevring {

struct connect_options {
    /// The address to come from; with port 0 the kernel chooses the port when it knows the peer.
    std::optional<endpoint> local_endpoint = std::nullopt;
    socket_options socket{.no_delay = true};
};
static_assert(std::is_trivially_copyable_v<connect_options>);  // for g++ 12, see CONTRIBUTING.md

/// Connects to `where`.
///
/// Errors     connection_refused; timed_out by the kernel after minutes, or by within() and
///            with_timeout() where the program uses them; operation_canceled; else those of
///            socket(2), bind(2) and connect(2).
/// Thread     The ring's own.
task<result<socket>> connect(ring& loop, endpoint peer, connect_options options = {});

}  // namespace kevring
