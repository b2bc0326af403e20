#include "proxy_header.hpp"

#include <algorithm>
#include <array>
#include <charconv>

namespace httpd {
namespace {

constexpr std::string_view signature{"\r\n\r\n\0\r\nQUIT\n", 12};
constexpr std::size_t text_bytes_max = 107;  // of version 1, with its end

using state = proxy_header::state;

proxy_header malformed() noexcept { return {.outcome = state::malformed, .client = {}}; }

bool is_port(std::string_view text) noexcept {
    unsigned port = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
    return error == std::errc() && end == text.data() + text.size() && port <= 65'535 &&
           (text.size() == 1 || text.front() != '0');
}

// "PROXY TCP4 192.0.2.1 192.0.2.2 56324 80\r\n", with one blank between words.
proxy_header parse_text(std::string_view bytes) noexcept {
    const std::size_t end = bytes.substr(0, text_bytes_max).find("\r\n");
    if (end == bytes.npos) return bytes.size() < text_bytes_max ? proxy_header{} : malformed();
    proxy_header found{.outcome = state::complete, .byte_count = end + 2, .client = {}};
    std::string_view line = bytes.substr(0, end);
    line.remove_prefix(std::string_view("PROXY ").size());
    if (line == "UNKNOWN" || line.starts_with("UNKNOWN ")) return found;
    std::array<std::string_view, 5> words;
    std::size_t count = 0;
    while (count < words.size()) {
        const std::size_t blank = count + 1 == words.size() ? line.npos : line.find(' ');
        words[count++] = line.substr(0, blank);
        if (blank == line.npos) break;
        line.remove_prefix(blank + 1);
    }
    const bool is_ipv4 = words[0] == "TCP4";
    if (count != words.size() || (!is_ipv4 && words[0] != "TCP6")) return malformed();
    const auto source = ip_address::parse(words[1]);
    const auto target = ip_address::parse(words[2]);
    const auto has_colon = [](std::string_view text) { return text.find(':') != text.npos; };
    if (!source || !target || has_colon(words[1]) == is_ipv4 || has_colon(words[2]) == is_ipv4 ||
        !is_port(words[3]) || !is_port(words[4]))
        return malformed();
    found.client = source;
    return found;
}

// Signature, version and command, family and protocol, length of the rest in network order.
proxy_header parse_binary(std::string_view bytes) noexcept {
    constexpr std::size_t fixed_bytes = 16;
    constexpr unsigned local = 0x20;
    constexpr unsigned proxied = 0x21;
    if (bytes.size() < fixed_bytes) return {};
    const auto byte = [bytes](std::size_t index) {
        return static_cast<unsigned>(static_cast<unsigned char>(bytes[index]));
    };
    const unsigned command = byte(12);
    const std::size_t rest = byte(14) << 8 | byte(15);
    if ((command != local && command != proxied) || fixed_bytes + rest > proxy_header::bytes_max)
        return malformed();
    if (bytes.size() < fixed_bytes + rest) return {};
    proxy_header found{.outcome = state::complete, .byte_count = fixed_bytes + rest, .client = {}};
    const unsigned family = byte(13) >> 4;
    if (command == local || (family != 1 && family != 2)) return found;
    const std::size_t address_bytes = family == 1 ? 4 : 16;
    if (rest < 2 * address_bytes + 4) return malformed();
    ip_address::bytes_type address{};
    const std::string_view source = bytes.substr(fixed_bytes, address_bytes);
    if (family == 1) address[10] = address[11] = 0xff;  // ::ffff:192.0.2.1
    std::ranges::transform(source, address.end() - static_cast<std::ptrdiff_t>(address_bytes),
                           [](char one) { return static_cast<std::uint8_t>(one); });
    found.client = ip_address(address);
    return found;
}

}  // namespace

proxy_header parse_proxy_header(std::string_view bytes) noexcept {
    constexpr std::string_view word = "PROXY ";
    const auto begins_as = [bytes](std::string_view expected) {
        const std::size_t count = std::min(bytes.size(), expected.size());
        return bytes.substr(0, count) == expected.substr(0, count);
    };
    if (begins_as(signature))
        return bytes.size() < signature.size() ? proxy_header{} : parse_binary(bytes);
    if (begins_as(word)) return bytes.size() < word.size() ? proxy_header{} : parse_text(bytes);
    return malformed();
}

}  // namespace httpd
