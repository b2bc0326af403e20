// endpoint.hpp: the address of one end of a connection: IPv4, IPv6 or a Unix path.
#pragma once

#include <kevring/runtime/result.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>

struct sockaddr;

namespace kevring {

/// The part of a text that is not an endpoint. Compares equal to std::errc::invalid_argument, and
/// path_too_long to filename_too_long.
enum class endpoint_errc {
    no_port = 1,    // "127.0.0.1"
    bad_port,       // "127.0.0.1:65536"
    no_host,        // ":80"
    url,            // "http://127.0.0.1:80"
    host_name,      // "example.org:80": names are not resolved
    bad_ipv4,       // "1.2.3:80"
    bad_ipv6,       // "[1::2::3]:80"
    no_brackets,    // "::1:80"
    open_bracket,   // "[::1:80"
    bad_scope,      // "[fe80::1%]:80"
    no_interface,   // "[fe80::1%eth9]:80" on a host without eth9
    no_path,        // "unix:"
    zero_in_path,   // a Unix path with a zero byte
    path_too_long,  // a Unix path above 107 bytes
};
std::error_code make_error_code(endpoint_errc code) noexcept;

/// A value, copied freely. Two endpoints are equal if they mean the same address: family, address
/// and port; the scope of IPv6; the path or abstract name of a Unix socket. Padding, flow labels
/// and the length in which a path is stored do not count. asio_bridge.hpp converts from and to
/// Asio.
class endpoint {
public:
    /// No address; not usable for a listener or a connection.
    endpoint() noexcept = default;
    /// From what the kernel gives.
    endpoint(const sockaddr* address, std::size_t address_bytes) noexcept;

    /// Reads `127.0.0.1:8080`, `[::1]:8080`, `*:8080` (every IPv4 address of this host),
    /// `[::]:8080` (every address), `[fe80::1%eth0]:8080` or `[fe80::1%2]:8080` (a scope, by name
    /// or number of the interface), `localhost:8080`, `unix:/path` or `unix:@abstract`. Names of
    /// hosts are not resolved: that would be a request to another host.
    ///
    /// Errors     endpoint_errc; its message names the part that is wrong and the remedy.
    static result<endpoint> parse(std::string_view text) noexcept;

    static endpoint loopback(std::uint16_t port) noexcept;
    /// A Unix address; a name that begins with '@' is abstract and has no file.
    ///
    /// Errors     endpoint_errc.
    static result<endpoint> unix_path(std::string_view path) noexcept;

    /// AF_INET, AF_INET6, AF_UNIX, or AF_UNSPEC for none.
    int family() const noexcept;
    /// 0 for a Unix address.
    std::uint16_t port() const noexcept;
    void set_port(std::uint16_t port) noexcept;
    /// The path of a Unix address that has a file; empty for others.
    std::string_view path() const noexcept;
    /// The address alone, as text, with the number of an IPv6 scope: for logs.
    std::string host() const;
    /// The text that parse() reads as an equal endpoint. A path that begins with '@' is written
    /// with
    /// "./" before it.
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

template <>
struct std::is_error_code_enum<kevring::endpoint_errc> : std::true_type {};
