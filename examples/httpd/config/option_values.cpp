#include "option_values.hpp"

#include <kevring/net/endpoint.hpp>

#include "examples/httpd/http/characters.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstring>

#include <netinet/in.h>
#include <sys/socket.h>

namespace httpd {
namespace {

std::string text_of(double value) {
    char digits[32];
    std::snprintf(digits, sizeof digits, "%g", value);
    return digits;
}

[[noreturn]] void fail(const std::string& reason) { throw value_error(reason); }

// "8080" and nothing else; the port of an address.
void check_port(std::string_view digits) {
    if (digits.empty()) fail("the port is missing; write HOST:PORT, as in 127.0.0.1:8080");
    std::uint64_t port = 0;
    if (!all_are(digits, digit_character)) fail("the port is not a number");
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
    if (error != std::errc() || port > 65'535) fail("the port is out of range; it is 0 to 65535");
}

// A socket for IPv6 alone, as the server makes it, cannot have such an address.
bool is_mapped_ipv4(const kevring::endpoint& address) noexcept {
    if (address.family() != AF_INET6) return false;
    sockaddr_in6 native{};
    std::memcpy(&native, address.address(), sizeof native);
    return IN6_IS_ADDR_V4MAPPED(&native.sin6_addr) != 0;
}

}  // namespace

std::uint64_t parse_number(std::string_view text, std::uint64_t first, std::uint64_t last) {
    const std::string range =
        "it must be from " + std::to_string(first) + " to " + std::to_string(last);
    if (text.empty()) fail("a number is missing; " + range);
    if (text.front() == '-' && all_are(text.substr(1), digit_character) && text.size() > 1)
        fail("out of range; " + range);
    if (!all_are(text, digit_character)) fail("not a whole number; " + range);
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || value < first || value > last) fail("out of range; " + range);
    return value;
}

std::chrono::milliseconds parse_seconds(std::string_view text, double first, double last) {
    const std::string range =
        "it must be from " + text_of(first) + " to " + text_of(last) + " seconds";
    double value = 0;
    const auto [end, error] =
        std::from_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed);
    if (text.empty() || end != text.data() + text.size() || error == std::errc::invalid_argument ||
        std::isnan(value))
        fail("not a number of seconds; " + range);
    if (error != std::errc() || !(value >= first && value <= last)) fail("out of range; " + range);
    return std::chrono::milliseconds(static_cast<std::int64_t>(std::llround(value * 1000)));
}

std::size_t parse_bytes(std::string_view text, std::uint64_t last) {
    constexpr std::string_view units = "KMGT";
    std::string_view digits = text;
    if (digits.ends_with("iB") || digits.ends_with("ib")) digits.remove_suffix(2);
    if (digits.size() > 1 && (digits.ends_with('B') || digits.ends_with('b')))
        digits.remove_suffix(1);
    std::uint64_t scale = 1;
    if (!digits.empty() && !is(digits.back(), digit_character)) {
        const char unit = static_cast<char>(digits.back() & ~0x20);
        const std::size_t power = units.find(unit);
        if (power == units.npos)
            fail("not a number of bytes; write a number, or one with K, M or G");
        scale = std::uint64_t{1} << (10 * (power + 1));
        digits.remove_suffix(1);
    }
    if (digits.empty() || !all_are(digits, digit_character))
        fail("not a number of bytes; write a number, or one with K, M or G");
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error != std::errc() || value > last / scale)
        fail("out of range; it must be from 0 to " + std::to_string(last) + " bytes");
    return static_cast<std::size_t>(value * scale);
}

bool parse_switch(std::string_view text) {
    for (const std::string_view word : {"true", "on", "yes", "1"})
        if (text == word) return true;
    for (const std::string_view word : {"false", "off", "no", "0"})
        if (text == word) return false;
    fail("it must be true or false");
}

unsigned parse_mode(std::string_view text) {
    unsigned value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 8);
    if (text.empty() || error != std::errc() || end != text.data() + text.size() || value > 0777)
        fail("not a mode; write permissions in octal, as in 660");
    return value;
}

std::size_t parse_word(std::string_view text, const std::vector<std::string_view>& words) {
    const auto found = std::ranges::find_if(
        words, [&](std::string_view word) { return same_ignoring_case(text, word); });
    if (found != words.end()) return static_cast<std::size_t>(found - words.begin());
    std::string list;
    for (std::size_t i = 0; i < words.size(); ++i)
        list.append(i == 0 ? "" : i + 1 == words.size() ? " or " : ", ").append(words[i]);
    fail("it must be " + list);
}

void check_address(std::string_view text) {
    if (text.empty()) fail("the address is missing; write HOST:PORT, [IPV6]:PORT or unix:PATH");
    if (text.find("://") != text.npos)
        fail("this is a URL; write the address alone, as in 127.0.0.1:8080");
    const auto address = kevring::endpoint::parse(text);
    if (address && is_mapped_ipv4(*address))
        fail("this is an IPv4 address; write it without ::ffff:, as in 127.0.0.1:8080");
    if (address) return;
    if (text.starts_with("unix:")) {
        if (text.size() == 5) fail("the path is missing; write unix:/run/httpd.sock");
        fail("the path is too long; a Unix socket's path has at most 107 bytes");
    }
    const std::size_t colon = text.rfind(':');
    const bool is_ipv6 = std::ranges::count(text, ':') > 1;
    if (is_ipv6 && !text.starts_with('['))
        fail("an IPv6 address is written in brackets, as in [::1]:8080");
    if (colon == text.npos || text.ends_with(']')) {
        if (all_are(text, digit_character))
            fail("the host is missing; write HOST:PORT, as in 127.0.0.1:" + std::string(text));
        check_port("");
    }
    check_port(text.substr(colon + 1));
    const std::string_view host = text.substr(0, colon);
    std::string reason;
    if (host.starts_with('['))
        reason = address.error().message();
    else if (host.empty())
        reason.append("the host is missing; write 127.0.0.1")
            .append(text)
            .append(", or *")
            .append(text)
            .append(" for all IPv4 addresses");
    else
        reason.append("'").append(host).append(
            "' is no IP address; names are not resolved, but for localhost");
    fail(reason);
}

}  // namespace httpd
