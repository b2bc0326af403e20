#include "network.hpp"

#include <algorithm>
#include <charconv>

#include "characters.hpp"

#include <arpa/inet.h>

namespace httpd {
namespace {

constexpr std::array<std::uint8_t, 12> ipv4_prefix{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

}  // namespace

std::optional<ip_address> ip_address::parse(std::string_view text) noexcept {
    std::array<char, INET6_ADDRSTRLEN> buffer{};
    if (text.empty() || text.size() >= buffer.size()) return std::nullopt;
    text.copy(buffer.data(), text.size());
    ip_address made;
    if (::inet_pton(AF_INET6, buffer.data(), made.bytes_.data()) == 1) return made;
    std::ranges::copy(ipv4_prefix, made.bytes_.begin());
    if (::inet_pton(AF_INET, buffer.data(), made.bytes_.data() + ipv4_prefix.size()) == 1)
        return made;
    return std::nullopt;
}

bool ip_address::is_ipv4() const noexcept {
    return std::equal(ipv4_prefix.begin(), ipv4_prefix.end(), bytes_.begin());
}

std::string ip_address::text() const {
    std::array<char, INET6_ADDRSTRLEN> buffer{};
    const bool ipv4 = is_ipv4();
    const std::uint8_t* const begin = bytes_.data() + (ipv4 ? ipv4_prefix.size() : 0);
    ::inet_ntop(ipv4 ? AF_INET : AF_INET6, begin, buffer.data(), buffer.size());
    return buffer.data();
}

ip_address ip_address::prefix(unsigned bit_count) const noexcept {
    bytes_type kept = bytes_;
    for (unsigned index = 0; index < kept.size(); ++index) {
        const unsigned before = index * 8;
        if (bit_count >= before + 8) continue;
        const unsigned bits = bit_count > before ? bit_count - before : 0;
        kept[index] = static_cast<std::uint8_t>(kept[index] & (0xff00U >> bits));
    }
    return ip_address(kept);
}

std::optional<ip_network> ip_network::parse(std::string_view text) noexcept {
    const std::size_t slash = text.find('/');
    const auto address = ip_address::parse(text.substr(0, slash));
    if (!address) return std::nullopt;
    ip_network made{*address, 128};
    if (slash == text.npos) return made;
    const std::string_view digits = text.substr(slash + 1);
    const unsigned bits_max = address->is_ipv4() ? 32 : 128;
    unsigned bits = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), bits);
    if (error != std::errc() || end != digits.data() + digits.size() || bits > bits_max)
        return std::nullopt;
    made.bit_count = bits + (128 - bits_max);
    made.first = address->prefix(made.bit_count);
    return made;
}

bool contains(const std::vector<ip_network>& networks, const ip_address& address) noexcept {
    return std::ranges::any_of(networks,
                               [&](const ip_network& each) { return each.contains(address); });
}

std::optional<ip_address> forwarded_client(std::string_view value,
                                           const std::vector<ip_network>& trusted) noexcept {
    std::optional<ip_address> found;
    while (true) {
        const std::size_t comma = value.rfind(',');
        std::string_view member = trimmed(value.substr(comma == value.npos ? 0 : comma + 1));
        if (member.starts_with('[')) {  // "[2001:db8::1]:4711", as some proxies write it
            member = member.substr(1, std::min(member.find(']'), member.size()) - 1);
        } else if (std::ranges::count(member, ':') == 1) {
            member = member.substr(0, member.find(':'));
        }
        const auto address = ip_address::parse(member);
        if (!address) return found;
        found = address;
        if (comma == value.npos || !contains(trusted, *address)) return found;
        value = value.substr(0, comma);
    }
}

}  // namespace httpd
