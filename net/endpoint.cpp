#include <kevring/net/endpoint.hpp>

#include <kevring/runtime/assert.hpp>

#include <algorithm>
#include <charconv>
#include <cstring>

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

namespace kevring {
namespace {

template <class Address>
Address read_as(const endpoint& from) noexcept {
    Address address{};
    std::memcpy(&address, from.address(),
                std::min<std::size_t>(sizeof address, from.address_bytes()));
    return address;
}

template <class Address>
endpoint make(const Address& address, std::size_t bytes = sizeof(Address)) noexcept {
    return {reinterpret_cast<const sockaddr*>(&address), bytes};
}

class endpoint_category final : public std::error_category {
public:
    const char* name() const noexcept override { return "kevring.endpoint"; }
    std::string message(int code) const override {
        switch (static_cast<endpoint_errc>(code)) {
            case endpoint_errc::no_port: return "port missing; write HOST:PORT or unix:PATH";
            case endpoint_errc::bad_port: return "port is not a number from 0 to 65535";
            case endpoint_errc::no_host:
                return "host missing; write *:PORT or [::]:PORT for every address of this host";
            case endpoint_errc::url: return "a URL is not an endpoint; write HOST:PORT";
            case endpoint_errc::host_name:
                return "host is a name, and names are not resolved here; write an address, or "
                       "call resolve(), or connect() with the text";
            case endpoint_errc::bad_ipv4: return "host is not an IPv4 address, as 127.0.0.1";
            case endpoint_errc::bad_ipv6: return "host is not an IPv6 address, as [::1]";
            case endpoint_errc::no_brackets:
                return "an IPv6 address needs brackets; write [ADDRESS]:PORT";
            case endpoint_errc::open_bracket:
                return "closing bracket missing; write [ADDRESS]:PORT";
            case endpoint_errc::bad_scope:
                return "IPv6 scope is not an interface; write its name or number behind the %";
            case endpoint_errc::no_interface:
                return "IPv6 scope names no network interface of this host";
            case endpoint_errc::no_path: return "path missing; write unix:PATH or unix:@NAME";
            case endpoint_errc::zero_in_path: return "Unix path contains a zero byte";
            case endpoint_errc::path_too_long:
                return "Unix path has more than 107 bytes, or abstract name more than 108 with its "
                       "@";
        }
        return "unknown error";
    }
    std::error_condition default_error_condition(int code) const noexcept override {
        return static_cast<endpoint_errc>(code) == endpoint_errc::path_too_long
                   ? std::errc::filename_too_long
                   : std::errc::invalid_argument;
    }
};

tl::unexpected<std::error_code> failure(endpoint_errc code) noexcept {
    return tl::unexpected<std::error_code>(make_error_code(code));
}

template <class Number>
bool read_number(std::string_view text, Number& number) noexcept {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    return !text.empty() && error == std::errc{} && end == text.data() + text.size();
}

// The zone of RFC 4007: the name of an interface, or its number.
result<std::uint32_t> parse_scope(std::string_view text) noexcept {
    std::array<char, IF_NAMESIZE> name{};
    if (text.empty() || text.find('\0') != std::string_view::npos)
        return failure(endpoint_errc::bad_scope);
    if (text.size() < name.size()) {
        std::copy(text.begin(), text.end(), name.begin());
        if (const unsigned index = ::if_nametoindex(name.data()); index != 0) return index;
    }
    std::uint32_t number = 0;
    if (read_number(text, number)) return number;
    const bool is_number = text.find_first_not_of("0123456789") == std::string_view::npos;
    return failure(is_number || text.size() >= name.size() ? endpoint_errc::bad_scope
                                                           : endpoint_errc::no_interface);
}

result<endpoint> parse_ipv6(std::string_view host, std::uint16_t port) noexcept {
    std::array<char, INET6_ADDRSTRLEN> text{};
    sockaddr_in6 address{};
    address.sin6_family = AF_INET6;
    address.sin6_port = htons(port);
    const std::size_t percent = host.find('%');
    const std::string_view bare = host.substr(0, percent);
    if (bare.empty()) return failure(endpoint_errc::no_host);
    // inet_pton() would stop at a zero byte, and ignore what follows.
    if (bare.size() >= text.size() || bare.find('\0') != std::string_view::npos)
        return failure(endpoint_errc::bad_ipv6);
    std::copy(bare.begin(), bare.end(), text.begin());
    if (::inet_pton(AF_INET6, text.data(), &address.sin6_addr) != 1)
        return failure(endpoint_errc::bad_ipv6);
    if (percent != std::string_view::npos) {
        const result<std::uint32_t> scope = parse_scope(host.substr(percent + 1));
        if (!scope) return tl::unexpected(scope.error());
        address.sin6_scope_id = *scope;
    }
    return make(address);
}

result<endpoint> parse_ipv4(std::string_view host, std::uint16_t port) noexcept {
    std::array<char, INET_ADDRSTRLEN> text{};
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    if (host.empty()) return failure(endpoint_errc::no_host);
    if (host == "*") return make(address);
    if (host == "localhost") return endpoint::loopback(port);
    if (host.find(':') != std::string_view::npos) return failure(endpoint_errc::no_brackets);
    if (host.find_first_not_of("0123456789.") != std::string_view::npos)
        return failure(endpoint_errc::host_name);
    if (host.size() >= text.size()) return failure(endpoint_errc::bad_ipv4);
    std::copy(host.begin(), host.end(), text.begin());
    if (::inet_pton(AF_INET, text.data(), &address.sin_addr) != 1)
        return failure(endpoint_errc::bad_ipv4);
    return make(address);
}

// The name of a Unix socket: a path up to its zero byte, or an abstract name, which begins with one
// and has any other bytes (unix(7)). Empty for an unnamed socket.
std::string_view unix_name(const endpoint& from) noexcept {
    constexpr std::size_t begin = offsetof(sockaddr_un, sun_path);
    if (from.family() != AF_UNIX || from.address_bytes() <= begin) return {};
    const char* const text = reinterpret_cast<const char*>(from.address()) + begin;
    const std::size_t byte_count = from.address_bytes() - begin;
    return {text, text[0] == '\0' ? byte_count : ::strnlen(text, byte_count)};
}

}  // namespace

endpoint::endpoint(const sockaddr* address, std::size_t address_bytes) noexcept
    : byte_count_(static_cast<unsigned>(std::min<std::size_t>(address_bytes, capacity_bytes))) {
    if (byte_count_ > 0) std::memcpy(storage_.data(), address, byte_count_);
}

result<endpoint> endpoint::parse(std::string_view text) noexcept {
    if (text.starts_with("unix:")) return unix_path(text.substr(5));
    if (text.find("://") != std::string_view::npos) return failure(endpoint_errc::url);
    const bool has_bracket = text.starts_with('[');
    std::size_t host_end = text.rfind(':');
    if (has_bracket) {
        const std::size_t bracket = text.find(']');
        if (bracket == std::string_view::npos) return failure(endpoint_errc::open_bracket);
        host_end = bracket + 1;
    }
    if (host_end >= text.size() || text[host_end] != ':') return failure(endpoint_errc::no_port);
    const std::string_view host = text.substr(0, host_end);
    std::uint16_t port = 0;
    if (!read_number(text.substr(host_end + 1), port))
        return failure(!has_bracket && host.find(':') != std::string_view::npos
                           ? endpoint_errc::no_brackets
                           : endpoint_errc::bad_port);
    if (has_bracket) return parse_ipv6(host.substr(1, host.size() - 2), port);
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
    if (path.empty()) return failure(endpoint_errc::no_path);
    // An abstract name begins with a zero byte and has no zero at its end (unix(7)).
    const bool abstract = path.front() == '@';
    if (!abstract && path.find('\0') != std::string_view::npos)
        return failure(endpoint_errc::zero_in_path);
    if (path.size() > sizeof address.sun_path - (abstract ? 0 : 1))
        return failure(endpoint_errc::path_too_long);
    std::copy(path.begin(), path.end(), address.sun_path);
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
    // The port has the same offset in both.
    static_assert(offsetof(sockaddr_in, sin_port) == offsetof(sockaddr_in6, sin6_port));
    KEVRING_ASSERT(family() == AF_INET || family() == AF_INET6,
                   "port set on an endpoint without ports; set it on IPv4 and IPv6 endpoints only");
    const std::uint16_t network_order = htons(port);
    std::memcpy(storage_.data() + offsetof(sockaddr_in, sin_port), &network_order,
                sizeof network_order);
}

std::string_view endpoint::path() const noexcept {
    const std::string_view name = unix_name(*this);
    return name.starts_with('\0') ? std::string_view() : name;
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
            const char* const bare =
                ::inet_ntop(AF_INET6, &address.sin6_addr, text.data(), text.size());
            if (address.sin6_scope_id == 0) return bare;
            return std::string(bare) + '%' + std::to_string(address.sin6_scope_id);
        }
        case AF_UNIX: {
            const std::string_view name = unix_name(*this);
            if (name.starts_with('\0')) return "unix:@" + std::string(name.substr(1));
            return (name.starts_with('@') ? "unix:./" : "unix:") + std::string(name);
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
    if (a.family() != b.family()) return false;
    switch (a.family()) {
        case AF_INET: {
            const auto x = read_as<sockaddr_in>(a);
            const auto y = read_as<sockaddr_in>(b);
            return x.sin_port == y.sin_port && x.sin_addr.s_addr == y.sin_addr.s_addr;
        }
        case AF_INET6: {
            const auto x = read_as<sockaddr_in6>(a);
            const auto y = read_as<sockaddr_in6>(b);
            return x.sin6_port == y.sin6_port && x.sin6_scope_id == y.sin6_scope_id &&
                   std::memcmp(&x.sin6_addr, &y.sin6_addr, sizeof x.sin6_addr) == 0;
        }
        case AF_UNIX: return unix_name(a) == unix_name(b);
        case AF_UNSPEC: return true;
        default:
            return a.byte_count_ == b.byte_count_ &&
                   std::equal(a.storage_.begin(), a.storage_.begin() + a.byte_count_,
                              b.storage_.begin());
    }
}

std::error_code make_error_code(endpoint_errc code) noexcept {
    static const endpoint_category category;
    return {static_cast<int>(code), category};
}

}  // namespace kevring
