// network.hpp: IP addresses and networks.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace httpd {

/// An IPv6 address, or an IPv4 address mapped into one (RFC 4291 2.5.5.2), so that both compare.
class ip_address {
public:
    using bytes_type = std::array<std::uint8_t, 16>;

    ip_address() noexcept = default;
    explicit ip_address(const bytes_type& bytes) noexcept : bytes_(bytes) {}

    /// "192.0.2.1" or "2001:db8::1"; nothing for any other text.
    static std::optional<ip_address> parse(std::string_view text) noexcept;

    const bytes_type& bytes() const noexcept { return bytes_; }
    bool is_ipv4() const noexcept;
    std::string text() const;
    /// The first `bit_count` bits; the others are 0.
    ip_address prefix(unsigned bit_count) const noexcept;

    friend bool operator==(const ip_address&, const ip_address&) noexcept = default;
    friend auto operator<=>(const ip_address&, const ip_address&) noexcept = default;

private:
    bytes_type bytes_{};
};

/// "192.0.2.0/24", "2001:db8::/32", or one address.
struct ip_network {
    ip_address first;
    unsigned bit_count = 128;

    static std::optional<ip_network> parse(std::string_view text) noexcept;
    bool contains(const ip_address& address) const noexcept {
        return address.prefix(bit_count) == first;
    }
};

bool contains(const std::vector<ip_network>& networks, const ip_address& address) noexcept;

/// The client's address in the lines of X-Forwarded-For: the last one that is no trusted proxy. A
/// member that is no address ends the search, for a client can write any text before the proxies'.
///
/// Result     Nothing if the last member is no address.
std::optional<ip_address> forwarded_client(std::string_view value,
                                           const std::vector<ip_network>& trusted) noexcept;

}  // namespace httpd
