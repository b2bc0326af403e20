#include "tests/support/catch.hpp"

#include <kevring/net/asio_bridge.hpp>
#include <kevring/net/endpoint.hpp>

#include <string>

#include <sys/socket.h>

using kevring::endpoint;

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

TEST_CASE("text that is no endpoint is refused", "[net][endpoint]") {
    for (const std::string text :
         {"", ":", "80", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1",
          "127.0.0.1:8 0", "1.2.3:80", "::1:80", "[::1]", "[::1:80", "example.org:80",
          "unix:", "[0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0001]:1"}) {
        CAPTURE(text);
        const auto read = endpoint::parse(text);
        REQUIRE_FALSE(read.has_value());
        CHECK(read.error() == std::errc::invalid_argument);
    }
    const auto with_zero = endpoint::parse(std::string("unix:/a\0b", 9));
    CHECK_FALSE(with_zero.has_value());
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
