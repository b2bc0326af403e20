// asio_bridge.hpp: conversions of addresses and errors to and from Asio; net/asio/ has the rest.
//
// Written for Asio 1.22 (Debian 12) and newer. kevring.hpp includes this header where that of Asio is
// found. The library itself needs none.
#pragma once

#include <kevring/net/endpoint.hpp>

#include <asio/ip/tcp.hpp>
#include <asio/local/stream_protocol.hpp>

#include <optional>
#include <string>

namespace kevring {

/// An Asio address as ours.
template <class Protocol>
endpoint from_asio(const asio::ip::basic_endpoint<Protocol>& from) noexcept {
    return {from.data(), from.size()};
}
inline endpoint from_asio(const asio::local::stream_protocol::endpoint& from) noexcept {
    return {from.data(), from.size()};
}

/// Ours as Asio's; nothing where it is no IP address.
inline std::optional<asio::ip::tcp::endpoint> to_asio(const endpoint& from) noexcept {
    if (from.family() != AF_INET && from.family() != AF_INET6) return std::nullopt;
    asio::ip::tcp::endpoint to;
    to.resize(from.address_bytes());
    std::memcpy(to.data(), from.address(), from.address_bytes());
    return to;
}

}  // namespace kevring
