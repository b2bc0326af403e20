#include <kevring/net/endpoint.hpp>

#include <kevring/runtime/assert.hpp>

#include <algorithm>
#include <charconv>
#include <cstring>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

namespace kevring {
namespace {

template <class Address>
Address read_as(const endpoint& from) noexcept {
    Address address{};
    std::memcpy(&address, from.address(),
                std::min<std::size_t>(sizeof address, endpoint::capacity()));
    return address;
}

template <class Address>
endpoint make(const Address& address, std::size_t bytes = sizeof(Address)) noexcept {
    return {reinterpret_cast<const sockaddr*>(&address), bytes};
}

bool read_port(std::string_view text, std::uint16_t& port) noexcept {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
    return !text.empty() && error == std::errc{} && end == text.data() + text.size();
}

result<endpoint> parse_ipv6(std::string_view host, std::uint16_t port) noexcept {
    std::array<char, INET6_ADDRSTRLEN> text{};
    sockaddr_in6 address{};
    address.sin6_family = AF_INET6;
    address.sin6_port = htons(port);
    if (host.size() >= text.size()) return error_from(std::errc::invalid_argument);
    std::copy(host.begin(), host.end(), text.begin());
    if (::inet_pton(AF_INET6, text.data(), &address.sin6_addr) != 1)
        return error_from(std::errc::invalid_argument);
    return make(address);
}

result<endpoint> parse_ipv4(std::string_view host, std::uint16_t port) noexcept {
    std::array<char, INET_ADDRSTRLEN> text{};
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    if (host == "*") return make(address);
    if (host == "localhost") return endpoint::loopback(port);
    if (host.size() >= text.size()) return error_from(std::errc::invalid_argument);
    std::copy(host.begin(), host.end(), text.begin());
    if (::inet_pton(AF_INET, text.data(), &address.sin_addr) != 1)
        return error_from(std::errc::invalid_argument);
    return make(address);
}

}  // namespace

endpoint::endpoint(const sockaddr* address, std::size_t address_bytes) noexcept
    : byte_count_(static_cast<unsigned>(std::min<std::size_t>(address_bytes, capacity_bytes))) {
    std::memcpy(storage_.data(), address, byte_count_);
}

result<endpoint> endpoint::parse(std::string_view text) noexcept {
    if (text.starts_with("unix:")) return unix_path(text.substr(5));
    const std::size_t colon = text.rfind(':');
    std::uint16_t port = 0;
    if (colon == std::string_view::npos || !read_port(text.substr(colon + 1), port))
        return error_from(std::errc::invalid_argument);
    const std::string_view host = text.substr(0, colon);
    if (host.size() >= 2 && host.front() == '[' && host.back() == ']')
        return parse_ipv6(host.substr(1, host.size() - 2), port);
    return parse_ipv4(host, port);
}

endpoint endpoint::loopback(std::uint16_t port) noexcept {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return make(address);
}

result<endpoint> endpoint::unix_path(std::string_view path) noexcept {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.empty() || path.find('\0') != std::string_view::npos)
        return error_from(std::errc::invalid_argument);
    if (path.size() >= sizeof address.sun_path) return error_from(std::errc::filename_too_long);
    std::copy(path.begin(), path.end(), address.sun_path);
    // An abstract name begins with a zero byte and has no zero at its end (unix(7)).
    const bool abstract = path.front() == '@';
    if (abstract) address.sun_path[0] = '\0';
    return make(address, offsetof(sockaddr_un, sun_path) + path.size() + (abstract ? 0 : 1));
}

void endpoint::set_address_bytes(unsigned count) noexcept {
    KEVRING_ASSERT(
        count <= capacity_bytes,
        "socket address longer than an endpoint; pass the length that the kernel reported");
    byte_count_ = count;
}

int endpoint::family() const noexcept {
    return byte_count_ < sizeof(sa_family_t) ? AF_UNSPEC : read_as<sockaddr>(*this).sa_family;
}

std::uint16_t endpoint::port() const noexcept {
    switch (family()) {
        case AF_INET: return ntohs(read_as<sockaddr_in>(*this).sin_port);
        case AF_INET6: return ntohs(read_as<sockaddr_in6>(*this).sin6_port);
        default: return 0;
    }
}

void endpoint::set_port(std::uint16_t port) noexcept {
    // The port stands at the same place in both.
    static_assert(offsetof(sockaddr_in, sin_port) == offsetof(sockaddr_in6, sin6_port));
    KEVRING_ASSERT(family() == AF_INET || family() == AF_INET6,
                   "port set on an endpoint without ports; set it on IPv4 and IPv6 endpoints only");
    const std::uint16_t network_order = htons(port);
    std::memcpy(storage_.data() + offsetof(sockaddr_in, sin_port), &network_order,
                sizeof network_order);
}

std::string_view endpoint::path() const noexcept {
    constexpr std::size_t begin = offsetof(sockaddr_un, sun_path);
    if (family() != AF_UNIX || byte_count_ <= begin) return {};
    const char* const text = reinterpret_cast<const char*>(storage_.data()) + begin;
    return {text, ::strnlen(text, byte_count_ - begin)};
}

std::string endpoint::host() const {
    std::array<char, INET6_ADDRSTRLEN> text{};
    switch (family()) {
        case AF_INET: {
            const auto address = read_as<sockaddr_in>(*this);
            return ::inet_ntop(AF_INET, &address.sin_addr, text.data(), text.size());
        }
        case AF_INET6: {
            const auto address = read_as<sockaddr_in6>(*this);
            return ::inet_ntop(AF_INET6, &address.sin6_addr, text.data(), text.size());
        }
        case AF_UNIX: {
            constexpr std::size_t begin = offsetof(sockaddr_un, sun_path);
            if (byte_count_ <= begin) return "unix:";
            const char* const name = reinterpret_cast<const char*>(storage_.data()) + begin;
            if (name[0] != '\0') return "unix:" + std::string(path());
            return "unix:@" + std::string(name + 1, byte_count_ - begin - 1);
        }
        default: return "none";
    }
}

std::string endpoint::to_string() const {
    switch (family()) {
        case AF_INET: return host() + ':' + std::to_string(port());
        case AF_INET6: return '[' + host() + "]:" + std::to_string(port());
        default: return host();
    }
}

bool operator==(const endpoint& a, const endpoint& b) noexcept {
    return a.byte_count_ == b.byte_count_ &&
           std::equal(a.storage_.begin(), a.storage_.begin() + a.byte_count_, b.storage_.begin());
}

}  // namespace kevring
