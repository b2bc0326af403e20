// proxy_header.cpp: versions 1 and 2 of the PROXY header, whole, in parts and malformed.
#include "examples/httpd/http/proxy_header.hpp"
#include "tests/support/catch.hpp"

#include <string>
#include <string_view>

using namespace httpd;
using state = proxy_header::state;

namespace {

std::string binary(unsigned char command, unsigned char family, std::string_view rest) {
    std::string bytes("\r\n\r\n\0\r\nQUIT\n", 12);
    bytes += static_cast<char>(command);
    bytes += static_cast<char>(family);
    bytes += static_cast<char>(rest.size() >> 8);
    bytes += static_cast<char>(rest.size() & 0xff);
    return bytes.append(rest);
}

const std::string ipv4("\xc0\x00\x02\x01\xc0\x00\x02\x02\x10\x00\x00\x50", 12);

void check_client(const std::string& header, std::string_view client) {
    for (std::size_t count = 1; count < header.size(); ++count)
        REQUIRE(parse_proxy_header(std::string_view(header).substr(0, count)).outcome ==
                state::incomplete);
    const proxy_header found = parse_proxy_header(header + "GET /");
    REQUIRE(found.outcome == state::complete);
    CHECK(found.byte_count == header.size());
    CHECK((found.client ? found.client->text() : "") == client);
}

}  // namespace

TEST_CASE("a PROXY header of version 1 names the client", "[httpd][proxy]") {
    check_client("PROXY TCP4 192.0.2.1 192.0.2.2 56324 80\r\n", "192.0.2.1");
    check_client("PROXY TCP6 2001:db8::1 2001:db8::2 0 65535\r\n", "2001:db8::1");
    check_client("PROXY UNKNOWN\r\n", "");
    check_client("PROXY UNKNOWN ff::1 ff::2 1 2\r\n", "");
}

TEST_CASE("a PROXY header of version 2 names the client", "[httpd][proxy]") {
    check_client(binary(0x21, 0x11, ipv4), "192.0.2.1");
    check_client(binary(0x21, 0x11, ipv4 + "extension"), "192.0.2.1");
    std::string ipv6("\x20\x01\x0d\xb8", 4);
    ipv6.append(11, '\0').append("\1", 1).append(16, '\0').append(4, '\1');
    check_client(binary(0x21, 0x21, ipv6), "2001:db8::1");
    check_client(binary(0x20, 0x00, ""), "");                     // the proxy's own check
    check_client(binary(0x21, 0x31, std::string(216, 'x')), "");  // a Unix socket
}

TEST_CASE("a malformed PROXY header is refused", "[httpd][proxy]") {
    const std::string_view texts[] = {"GET / HTTP/1.1\r\n",
                                      "PROXZ",
                                      "PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
                                      "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
                                      "PROXY TCP4 192.0.2.1  192.0.2.2 1 2\r\n",
                                      "PROXY TCP4 2001:db8::1 192.0.2.2 1 2\r\n",
                                      "PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
                                      "PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n",
                                      "PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n",
                                      "PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
                                      "PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
                                      "PROXY \r\n",
                                      "PROXY UNKNOWNS\r\n"};
    for (const std::string_view text : texts) {
        INFO(text);
        CHECK(parse_proxy_header(text).outcome == state::malformed);
    }
    CHECK(parse_proxy_header("PROXY " + std::string(101, 'x')).outcome == state::malformed);
    CHECK(parse_proxy_header(binary(0x11, 0x11, ipv4)).outcome == state::malformed);
    CHECK(parse_proxy_header(binary(0x22, 0x11, ipv4)).outcome == state::malformed);
    CHECK(parse_proxy_header(binary(0x21, 0x11, ipv4.substr(1))).outcome == state::malformed);
    CHECK(parse_proxy_header(binary(0x21, 0x11, std::string(5000, 'x'))).outcome ==
          state::malformed);
}
