// limits.cpp: lengths and durations at the limits of their types.
#include "tests/support/catch.hpp"
#include "tests/support/run_on.hpp"
#include "tests/support/socket_pair.hpp"

#include <kevring/net/byte_reader.hpp>
#include <kevring/net/listener.hpp>
#include <kevring/net/socket.hpp>

#include <chrono>
#include <climits>
#include <cstdint>
#include <string>
#include <utility>

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

using kevring::byte_reader;
using kevring::ring;
using kevring::socket_options;
using kevring::task;

namespace {

kevring::fd duplicate(kevring::fd_ref from) {
    return kevring::fd(::fcntl(from.number(), F_DUPFD_CLOEXEC, 0));
}

int option_of(kevring::fd_ref socket, int name) {
    int value = -1;
    socklen_t size = sizeof value;
    REQUIRE(::getsockopt(socket.number(), IPPROTO_TCP, name, &value, &size) == 0);
    return value;
}

}  // namespace

TEST_CASE("a line may be as long as memory", "[net][limits]") {
    const std::size_t byte_count_max =
        GENERATE(SIZE_MAX, SIZE_MAX - 1, SIZE_MAX - 2, SIZE_MAX / 2, std::size_t{70'000});
    const std::string delimiter = GENERATE("\n", "\r\n", "end");
    CAPTURE(byte_count_max, delimiter);
    ring loop;
    const socket_pair sockets;
    kevring::socket client(loop, duplicate(sockets.local()));
    const std::string text(50'000, 't');
    sockets.send_from_peer(text + delimiter + "rest" + delimiter);

    run_on(loop, [&]() -> task<void> {
        byte_reader reader(client);
        const auto first = co_await reader.read_line(byte_count_max, delimiter);
        REQUIRE(first.has_value());
        CHECK(*first == text);
        const auto second = co_await reader.read_line(byte_count_max, delimiter);
        REQUIRE(second.has_value());
        CHECK(*second == "rest");
    });
}

TEST_CASE("a line that is one byte too long is refused", "[net][limits]") {
    ring loop;
    const socket_pair sockets;
    kevring::socket client(loop, duplicate(sockets.local()));
    sockets.send_from_peer("123456\n");

    run_on(loop, [&]() -> task<void> {
        byte_reader reader(client);
        const auto none = co_await reader.read_line(5);
        CHECK_FALSE(none.has_value());
        CHECK(none.error() == std::errc::message_size);
        const auto line = co_await reader.read_line(6);
        REQUIRE(line.has_value());
        CHECK(*line == "123456");
    });
}

TEST_CASE("a count beyond all bytes ends with the stream", "[net][limits]") {
    const std::size_t byte_count = GENERATE(SIZE_MAX, SIZE_MAX - 1, std::size_t{1} << 40);
    ring loop;
    socket_pair sockets;
    kevring::socket client(loop, duplicate(sockets.local()));
    sockets.send_from_peer("some bytes");
    sockets.close_peer();

    run_on(loop, [&]() -> task<void> {
        byte_reader reader(client);
        const auto none = co_await reader.read_exactly(byte_count);
        CHECK_FALSE(none.has_value());
        CHECK(none.error() == std::errc::connection_aborted);
    });
}

TEST_CASE("close() with the longest linger timeout waits for the peer", "[net][limits]") {
    ring loop;
    const socket_pair sockets;
    kevring::socket client(loop, duplicate(sockets.local()));
    bool closed = false;

    run_on(loop, [&]() -> task<void> {
        kevring::task_scope side(loop);
        auto close = [&]() -> task<void> {
            co_await client.close(std::chrono::hours::max());
            closed = true;
        };
        side.spawn(close());
        for (int i = 0; i < 10; ++i) co_await kevring::yield();
        CHECK_FALSE(closed);
        ::shutdown(sockets.peer().number(), SHUT_WR);
        co_await side.join();
    });

    CHECK(closed);
}

TEST_CASE("times and sizes of socket options stop at the limits of the kernel", "[net][limits]") {
    ring loop;
    auto bound = kevring::listener::bind(loop, kevring::endpoint::loopback(0));
    REQUIRE(bound.has_value());
    const kevring::fd_ref socket = bound->native();

    socket_options longest;
    longest.keep_alive = std::chrono::hours::max();
    longest.user_timeout = std::chrono::hours::max();
    longest.send_buffer_bytes = SIZE_MAX;
    longest.receive_buffer_bytes = SIZE_MAX;
    CHECK(kevring::set_options(socket, longest).has_value());
    CHECK(option_of(socket, TCP_KEEPIDLE) == 32767);
    CHECK(option_of(socket, TCP_USER_TIMEOUT) == INT_MAX);

    socket_options fraction;
    fraction.keep_alive = std::chrono::milliseconds(1500);
    CHECK(kevring::set_options(socket, fraction).has_value());
    CHECK(option_of(socket, TCP_KEEPIDLE) == 2);

    socket_options negative;
    negative.keep_alive = std::chrono::seconds(-1);
    CHECK(kevring::set_options(socket, negative).error() == std::errc::invalid_argument);
    negative.keep_alive.reset();
    negative.user_timeout = std::chrono::milliseconds(-1);
    CHECK(kevring::set_options(socket, negative).error() == std::errc::invalid_argument);
}
