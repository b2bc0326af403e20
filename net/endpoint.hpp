// endpoint.hpp: the address of one end of a connection: IPv4, IPv6 or a Unix path.
#pragma once

#include <kevring/runtime/result.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

struct sockaddr;

namespace kevring {

/// A value: copied freely, compared by what it means. asio_bridge.hpp converts from and to Asio.
class endpoint {
public:
    /// No address; not usable for a listener or a connection.
    endpoint() noexcept = default;
    /// From what the kernel gives.
    endpoint(const sockaddr* address, std::size_t address_bytes) noexcept;

    /// Reads `127.0.0.1:8080`, `[::1]:8080`, `*:8080` (every IPv4 address of this host),
    /// `[::]:8080` (every address), `localhost:8080`, `unix:/path` or `unix:@abstract`. Names are
    /// not looked up: that would be a request to another host.
    ///
    /// Errors     invalid_argument; filename_too_long for a Unix path above 107 bytes.
    static result<endpoint> parse(std::string_view text) noexcept;

    static endpoint loopback(std::uint16_t port) noexcept;
    /// A Unix address; a name that begins with '@' is abstract and has no file.
    static result<endpoint> unix_path(std::string_view path) noexcept;

    /// AF_INET, AF_INET6, AF_UNIX, or AF_UNSPEC for none.
    int family() const noexcept;
    /// 0 for a Unix address.
    std::uint16_t port() const noexcept;
    void set_port(std::uint16_t port) noexcept;
    /// The path of a Unix address that has a file; empty for others.
    std::string_view path() const noexcept;
    /// The address alone, as text: what a log wants of a peer.
    std::string host() const;
    /// As parse() reads it.
    std::string to_string() const;

    const sockaddr* address() const noexcept {
        return reinterpret_cast<const sockaddr*>(storage_.data());
    }
    sockaddr* address() noexcept { return reinterpret_cast<sockaddr*>(storage_.data()); }
    unsigned address_bytes() const noexcept { return byte_count_; }
    /// For calls that fill the address in; at most capacity().
    void set_address_bytes(unsigned count) noexcept;
    static constexpr unsigned capacity() noexcept { return capacity_bytes; }

    friend bool operator==(const endpoint& a, const endpoint& b) noexcept;

private:
    static constexpr unsigned capacity_bytes = 112;  // of sockaddr_un, the longest

    alignas(8) std::array<std::byte, capacity_bytes> storage_{};
    unsigned byte_count_ = 0;
};

}  // namespace kevring
