// proxy_header.hpp: the PROXY protocol, versions 1 and 2: the client's address before its first
// request.
#pragma once

#include "network.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace httpd {

/// The header at the beginning of a connection.
struct proxy_header {
    enum class state : std::uint8_t { incomplete, malformed, complete };

    /// A longer header of version 2, with its extensions, is malformed.
    static constexpr std::size_t bytes_max = 4096;

    state outcome = state::incomplete;
    std::size_t byte_count = 0;  ///< of a complete header
    /// The client's; nothing if the proxy speaks for itself (a health check), does not know it, or
    /// has it from a Unix socket.
    std::optional<ip_address> client;
};

/// `bytes` are the first bytes of a connection, at least one.
proxy_header parse_proxy_header(std::string_view bytes) noexcept;

}  // namespace httpd
