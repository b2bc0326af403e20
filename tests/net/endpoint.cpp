#include "tests/support/catch.hpp"

#include <kevring/net/asio_bridge.hpp>
#include <kevring/net/endpoint.hpp>
#include <kevring/runtime/fd.hpp>

#include <cstddef>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

using kevring::endpoint;
using kevring::endpoint_errc;

namespace {

template <class Address>
endpoint endpoint_of(const Address& address, std::size_t byte_count = sizeof(Address)) {
    return {reinterpret_cast<const sockaddr*>(&address), byte_count};
}

}  // namespace

TEST_CASE("an endpoint reads what it writes", "[net][endpoint]") {
    for (const std::string text : {"127.0.0.1:8080", "0.0.0.0:1", "[::1]:65535",
                                   "[2001:db8::7]:443", "unix:/run/a.sock", "unix:@abstract"}) {
        CAPTURE(text);
        const auto read = endpoint::parse(text);
        REQUIRE(read.has_value());
        CHECK(read->to_string() == text);
    }
}

TEST_CASE("short forms mean what people expect", "[net][endpoint]") {
    CHECK(endpoint::parse("localhost:80")->to_string() == "127.0.0.1:80");
    CHECK(endpoint::parse("*:80")->to_string() == "0.0.0.0:80");
}

TEST_CASE("text that is no endpoint is refused with the part that is wrong", "[net][endpoint]") {
    struct wrong_text {
        std::string text;
        endpoint_errc error;
    };
    const std::vector<wrong_text> table{
        {"", endpoint_errc::no_port},
        {"80", endpoint_errc::no_port},
        {"127.0.0.1", endpoint_errc::no_port},
        {"[::1]", endpoint_errc::no_port},
        {"[::1]80", endpoint_errc::no_port},
        {":", endpoint_errc::bad_port},
        {"127.0.0.1:", endpoint_errc::bad_port},
        {"127.0.0.1:65536", endpoint_errc::bad_port},
        {"127.0.0.1:-1", endpoint_errc::bad_port},
        {"127.0.0.1:8 0", endpoint_errc::bad_port},
        {"127.0.0.1:http", endpoint_errc::bad_port},
        {"[::1]:99999", endpoint_errc::bad_port},
        {":80", endpoint_errc::no_host},
        {"[]:80", endpoint_errc::no_host},
        {"http://127.0.0.1:80", endpoint_errc::url},
        {"example.org:80", endpoint_errc::host_name},
        {"www:80", endpoint_errc::host_name},
        {"1.2.3:80", endpoint_errc::bad_ipv4},
        {"1.2.3.256:80", endpoint_errc::bad_ipv4},
        {"1.2.3.4.5.6.7.8.9.10:80", endpoint_errc::bad_ipv4},
        {"[::1::2]:80", endpoint_errc::bad_ipv6},
        {"[1.2.3.4]:80", endpoint_errc::bad_ipv6},
        {"[0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0001]:1",
         endpoint_errc::bad_ipv6},
        {"::1:80", endpoint_errc::no_brackets},
        {"fe80::1", endpoint_errc::no_brackets},
        {"[::1:80", endpoint_errc::open_bracket},
        {"[fe80::1%]:80", endpoint_errc::bad_scope},
        {"[fe80::1%4294967296]:80", endpoint_errc::bad_scope},
        {"[fe80::1%no-such-if0]:80", endpoint_errc::no_interface},
        {"unix:", endpoint_errc::no_path},
        {std::string("unix:/a\0b", 9), endpoint_errc::zero_in_path},
    };
    for (const wrong_text& row : table) {
        CAPTURE(row.text);
        const auto read = endpoint::parse(row.text);
        REQUIRE_FALSE(read.has_value());
        CHECK(read.error() == row.error);
        CHECK(read.error() == std::errc::invalid_argument);
        CHECK_THAT(read.error().message(), !ContainsSubstring("unknown"));
    }
    CHECK_THAT(endpoint::parse("example.org:80").error().message(),
               ContainsSubstring("names are not resolved"));
}

TEST_CASE("the scope of an IPv6 address is kept", "[net][endpoint]") {
    const unsigned loopback = ::if_nametoindex("lo");
    const auto number = endpoint::parse("[fe80::1%7]:80");
    REQUIRE(number.has_value());
    CHECK(number->to_string() == "[fe80::1%7]:80");
    CHECK(number->host() == "fe80::1%7");
    CHECK(endpoint::parse(number->to_string()).value() == *number);
    CHECK_FALSE(endpoint::parse("[fe80::1%8]:80").value() == *number);
    CHECK_FALSE(endpoint::parse("[fe80::1]:80").value() == *number);
    if (loopback == 0) return;
    const auto name = endpoint::parse("[fe80::1%lo]:80");
    REQUIRE(name.has_value());
    CHECK(name->to_string() == "[fe80::1%" + std::to_string(loopback) + "]:80");
}

TEST_CASE("endpoints are equal if they mean the same address", "[net][endpoint]") {
    sockaddr_in four{};
    four.sin_family = AF_INET;
    four.sin_port = htons(80);
    four.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    sockaddr_in padded = four;
    std::memset(padded.sin_zero, 0x55, sizeof padded.sin_zero);
    CHECK(endpoint_of(four) == endpoint_of(padded));
    padded.sin_port = htons(81);
    CHECK_FALSE(endpoint_of(four) == endpoint_of(padded));

    sockaddr_in6 six{};
    six.sin6_family = AF_INET6;
    six.sin6_addr.s6_addr[15] = 1;
    sockaddr_in6 labelled = six;
    labelled.sin6_flowinfo = htonl(0x12345);
    CHECK(endpoint_of(six) == endpoint_of(labelled));
    labelled.sin6_scope_id = 3;
    CHECK_FALSE(endpoint_of(six) == endpoint_of(labelled));
    CHECK_FALSE(endpoint_of(six) == endpoint_of(four));

    constexpr std::size_t begin = offsetof(sockaddr_un, sun_path);
    sockaddr_un path{};
    path.sun_family = AF_UNIX;
    std::strcpy(path.sun_path, "/run/a");
    CHECK(endpoint_of(path, begin + 6) == endpoint_of(path, begin + 7));
    CHECK(endpoint_of(path, begin + 6) == endpoint_of(path));
    CHECK(endpoint_of(path) == endpoint::unix_path("/run/a").value());
    sockaddr_un dirty = path;
    dirty.sun_path[20] = 'x';  // behind the zero byte
    CHECK(endpoint_of(path) == endpoint_of(dirty));
    CHECK_FALSE(endpoint_of(path, begin + 5) == endpoint_of(path));

    sockaddr_un abstract{};
    abstract.sun_family = AF_UNIX;
    std::memcpy(abstract.sun_path, "\0name\0x", 7);
    CHECK(endpoint_of(abstract, begin + 5) == endpoint::unix_path("@name").value());
    CHECK_FALSE(endpoint_of(abstract, begin + 5) == endpoint_of(abstract, begin + 6));
    CHECK_FALSE(endpoint_of(abstract, begin + 5) == endpoint_of(abstract, begin + 7));
    CHECK_FALSE(endpoint_of(abstract, begin + 5) == endpoint::unix_path("name").value());
    for (const std::size_t bytes : {begin + 5, begin + 6, begin + 7}) {
        const endpoint name = endpoint_of(abstract, bytes);
        CHECK(endpoint::parse(name.to_string()).value() == name);
    }
    CHECK(endpoint_of(path, begin) == endpoint_of(abstract, begin));  // both have no name
    CHECK(endpoint() == endpoint());
}

TEST_CASE("a path that begins with an at sign is not read as an abstract name", "[net][endpoint]") {
    sockaddr_un path{};
    path.sun_family = AF_UNIX;
    std::strcpy(path.sun_path, "@file");
    const auto read = endpoint::parse(endpoint_of(path).to_string());
    REQUIRE(read.has_value());
    CHECK(read->path() == "./@file");
}

TEST_CASE("a zero byte in the text of an address is refused", "[net][endpoint]") {
    using namespace std::string_view_literals;
    for (const std::string_view text :
         {"[::1\0junk]:80"sv, "[::1%1\0junk]:80"sv, "127.0.0.1\0:80"sv, "127.0.0.1:80\0"sv})
        CHECK_FALSE(endpoint::parse(text).has_value());
}

TEST_CASE("an abstract name of 107 bytes is read as it was written", "[net][endpoint]") {
    std::string name = "@kevring-test-" + std::to_string(::getpid());
    name.resize(108, 'n');
    const auto longest = endpoint::unix_path(name);
    REQUIRE(longest.has_value());
    CHECK(endpoint::parse(longest->to_string()).value() == *longest);
    CHECK_FALSE(endpoint::unix_path(name + 'n').has_value());
    const kevring::fd bound(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    CHECK(::bind(bound.number(), longest->address(), longest->address_bytes()) == 0);
}

TEST_CASE("a Unix path of 107 bytes fits, one of 108 does not", "[net][endpoint]") {
    CHECK(endpoint::unix_path(std::string(107, 'p')).has_value());
    const auto read = endpoint::unix_path(std::string(108, 'p'));
    REQUIRE_FALSE(read.has_value());
    CHECK(read.error() == std::errc::filename_too_long);
}

TEST_CASE("endpoints go to Asio and back", "[net][endpoint][asio]") {
    for (const std::string text : {"127.0.0.1:8080", "[::1]:443"}) {
        const auto here = endpoint::parse(text).value();
        const auto there = kevring::to_asio(here);
        REQUIRE(there.has_value());
        CHECK(there->port() == here.port());
        CHECK(kevring::from_asio(*there) == here);
    }
    CHECK_FALSE(kevring::to_asio(endpoint::parse("unix:/a").value()).has_value());
    const asio::local::stream_protocol::endpoint local("/run/a.sock");
    CHECK(kevring::from_asio(local).path() == "/run/a.sock");
}

TEST_CASE("an endpoint that was never set has no family", "[net][endpoint]") {
    CHECK(endpoint().family() == AF_UNSPEC);
    CHECK(endpoint().to_string() == "none");
}
