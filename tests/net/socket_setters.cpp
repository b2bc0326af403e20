// Options of sockets: the values arrive at the kernel in its unit, and wrong ones are refused.
#include "tests/support/catch.hpp"
#include "tests/support/run_on.hpp"

#include <kevring/net/datagram_socket.hpp>
#include <kevring/net/listener.hpp>
#include <kevring/net/socket_setters.hpp>

#include <array>
#include <chrono>
#include <climits>
#include <string>
#include <string_view>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

using kevring::endpoint;
using kevring::fd;
using kevring::result;
using kevring::ring;
using kevring::task;
using namespace std::chrono_literals;

namespace {

int value_of(const fd& socket, int level, int name) {
    int value = -1;
    socklen_t byte_count = sizeof value;
    CHECK(::getsockopt(socket.number(), level, name, &value, &byte_count) == 0);
    return value;
}

fd open_tcp(int family = AF_INET) {
    auto opened = kevring::open_stream_socket(family);
    REQUIRE(opened.has_value());
    return std::move(*opened);
}

bool out_of_range(const result<void>& changed) {
    return !changed && changed.error() == std::errc::invalid_argument;
}

}  // namespace

TEST_CASE("keep-alive has its three times, in whole seconds", "[net][options]") {
    const fd socket = open_tcp();
    REQUIRE(kevring::set_keep_alive(socket, {.idle = 1500ms, .interval = 7s, .probe_count = 4}));
    CHECK(value_of(socket, SOL_SOCKET, SO_KEEPALIVE) == 1);
    CHECK(value_of(socket, IPPROTO_TCP, TCP_KEEPIDLE) == 2);
    CHECK(value_of(socket, IPPROTO_TCP, TCP_KEEPINTVL) == 7);
    CHECK(value_of(socket, IPPROTO_TCP, TCP_KEEPCNT) == 4);
    CHECK(out_of_range(kevring::set_keep_alive(socket, {.idle = 0s})));
    CHECK(out_of_range(kevring::set_keep_alive(socket, {.idle = 32767s + 1ns})));
    CHECK(out_of_range(kevring::set_keep_alive(socket, {.interval = -1s})));
    CHECK(out_of_range(kevring::set_keep_alive(socket, {.probe_count = 0})));
    CHECK(out_of_range(kevring::set_keep_alive(socket, {.probe_count = 128})));
    CHECK(value_of(socket, IPPROTO_TCP, TCP_KEEPIDLE) == 2);
    REQUIRE(
        kevring::set_keep_alive(socket, {.idle = 32767s, .interval = 32767s, .probe_count = 127}));
    REQUIRE(kevring::clear_keep_alive(socket));
    CHECK(value_of(socket, SOL_SOCKET, SO_KEEPALIVE) == 0);
}

TEST_CASE("the user timeout and linger have their units and ranges", "[net][options]") {
    const fd socket = open_tcp();
    REQUIRE(kevring::set_user_timeout(socket, 1500us));
    CHECK(value_of(socket, IPPROTO_TCP, TCP_USER_TIMEOUT) == 2);
    REQUIRE(kevring::set_user_timeout(socket, std::chrono::milliseconds(INT_MAX)));
    CHECK(out_of_range(kevring::set_user_timeout(socket, std::chrono::hours::max())));
    CHECK(out_of_range(kevring::set_user_timeout(socket, -1ms)));

    linger seen{};
    socklen_t byte_count = sizeof seen;
    REQUIRE(kevring::set_linger(socket, 1500ms));
    CHECK(::getsockopt(socket.number(), SOL_SOCKET, SO_LINGER, &seen, &byte_count) == 0);
    CHECK(seen.l_onoff == 1);
    CHECK(seen.l_linger == 2);
    REQUIRE(kevring::set_linger(socket, std::nullopt));
    CHECK(::getsockopt(socket.number(), SOL_SOCKET, SO_LINGER, &seen, &byte_count) == 0);
    CHECK(seen.l_onoff == 0);
    CHECK(out_of_range(kevring::set_linger(socket, -1s)));
    CHECK(out_of_range(kevring::set_linger(socket, std::chrono::hours::max())));
}

TEST_CASE("a linger of zero resets the peer", "[net][options]") {
    ring loop;
    auto body = [&]() -> task<void> {
        auto listening = kevring::listener::bind(endpoint::loopback(0)).value();
        auto opened = open_tcp();
        REQUIRE(kevring::set_linger(opened, 0s));
        {
            auto connected =
                co_await kevring::connect(loop, std::move(opened), listening.local().value());
            REQUIRE(connected.has_value());
        }
        auto accepted = co_await listening.accept();
        REQUIRE(accepted.has_value());
        const auto received = co_await accepted->receive();
        CHECK(received.error() == std::errc::connection_reset);
    };
    run_on(loop, body);
}

TEST_CASE("the traffic class is set for both families", "[net][options]") {
    const fd four = open_tcp();
    REQUIRE(kevring::set_traffic_class(four, 0xb8));
    CHECK(value_of(four, IPPROTO_IP, IP_TOS) == 0xb8);
    CHECK(out_of_range(kevring::set_traffic_class(four, 256)));
    CHECK(out_of_range(kevring::set_traffic_class(four, -1)));
    auto six = kevring::open_stream_socket(AF_INET6);
    if (six) {
        REQUIRE(kevring::set_traffic_class(*six, 0x48));
        CHECK(value_of(*six, IPPROTO_IPV6, IPV6_TCLASS) == 0x48);
        CHECK(value_of(*six, IPPROTO_IP, IP_TOS) == 0x48);
    }
    const fd local = open_tcp(AF_UNIX);
    CHECK(kevring::set_traffic_class(local, 0).error() == std::errc::operation_not_supported);
    ring loop;
    auto body = [&]() -> task<void> {
        auto datagrams = kevring::datagram_socket::open(AF_INET).value();
        CHECK(kevring::set_traffic_class(datagrams.native(), 0xb8));
        co_return;
    };
    run_on(loop, body);
}

TEST_CASE("a socket is bound to an interface by its name", "[net][options]") {
    const fd socket = open_tcp();
    CHECK(kevring::set_device(socket, "none-such").error() == std::errc::no_such_device);
    CHECK(out_of_range(kevring::set_device(socket, "sixteen-bytes-xx")));
    CHECK(out_of_range(kevring::set_device(socket, std::string_view("lo\0x", 4))));
    REQUIRE(kevring::set_device(socket, "lo"));
    std::array<char, 16> name{};
    socklen_t byte_count = name.size();
    CHECK(::getsockopt(socket.number(), SOL_SOCKET, SO_BINDTODEVICE, name.data(), &byte_count) ==
          0);
    CHECK(std::string(name.data()) == "lo");
}

TEST_CASE("TCP fast open is set on listeners and before a connect", "[net][options]") {
    ring loop;
    auto body = [&]() -> task<void> {
        auto listening = kevring::listener::bind(endpoint::loopback(0)).value();
        REQUIRE(kevring::set_fast_open_queue(listening.native(), 16));
        CHECK(out_of_range(kevring::set_fast_open_queue(listening.native(), -1)));
        auto opened = open_tcp();
        const auto allowed = kevring::set_fast_open_connect(opened, true);
        if (!allowed) {
            CHECK(allowed.error() == std::errc::operation_not_supported);
            WARN("not tried: net.ipv4.tcp_fastopen forbids it on this machine");
            co_return;
        }
        CHECK(value_of(opened, IPPROTO_TCP, TCP_FASTOPEN_CONNECT) == 1);
        auto connected =
            co_await kevring::connect(loop, std::move(opened), listening.local().value());
        REQUIRE(connected.has_value());
        const auto sent = co_await connected->send("hello");
        CHECK(sent.has_value());
        auto accepted = co_await listening.accept();
        const auto received = co_await accepted.value().receive();
        CHECK(received.value().size() == 5);
    };
    run_on(loop, body);
}

TEST_CASE("the processor and busy polling have their ranges", "[net][options]") {
    const fd socket = open_tcp();
    REQUIRE(kevring::set_incoming_cpu(socket, 0));
    CHECK(kevring::incoming_cpu(socket).value() == 0);
    CHECK(out_of_range(kevring::set_incoming_cpu(socket, -1)));
    CHECK(out_of_range(kevring::set_busy_poll(socket, -1us)));
    CHECK(out_of_range(kevring::set_busy_poll(socket, std::chrono::hours::max())));
    const auto changed = kevring::set_busy_poll(socket, 50us);
    if (changed)
        CHECK(value_of(socket, SOL_SOCKET, SO_BUSY_POLL) == 50);
    else  // without CAP_NET_ADMIN, or a kernel without CONFIG_NET_RX_BUSY_POLL
        CHECK((changed.error() == std::errc::operation_not_permitted ||
               changed.error() == std::errc::no_protocol_option));
}

TEST_CASE("a descriptor that is no socket is refused by every setter", "[net][options]") {
    int ends[2] = {-1, -1};
    REQUIRE(::pipe(ends) == 0);
    const fd reading(ends[0]);
    const fd writing(ends[1]);
    const auto not_socket = [](const result<void>& changed) {
        return !changed && changed.error() == std::errc::not_a_socket;
    };
    CHECK(not_socket(kevring::set_keep_alive(reading, {})));
    CHECK(not_socket(kevring::clear_keep_alive(reading)));
    CHECK(not_socket(kevring::set_user_timeout(reading, 0ms)));
    CHECK(not_socket(kevring::set_fast_open_queue(reading, 0)));
    CHECK(not_socket(kevring::set_fast_open_connect(reading, false)));
    CHECK(not_socket(kevring::set_traffic_class(reading, 0)));
    CHECK(not_socket(kevring::set_device(reading, "lo")));
    CHECK(not_socket(kevring::set_incoming_cpu(reading, 0)));
    CHECK(not_socket(kevring::set_busy_poll(reading, 0us)));
    CHECK(not_socket(kevring::set_linger(reading, std::nullopt)));
    CHECK(kevring::set_linger(kevring::fd_ref(-1), std::nullopt).error() ==
          std::errc::bad_file_descriptor);
    CHECK(kevring::open_stream_socket(-1).error() == std::errc::address_family_not_supported);
}
