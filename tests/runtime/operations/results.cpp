// Results of operations: complete and short.
#include "tests/support/catch.hpp"
#include "tests/support/loopback_listener.hpp"
#include "tests/support/run_on.hpp"
#include "tests/support/scripted_kernel.hpp"
#include "tests/support/socket_pair.hpp"

#include <kevring/runtime/operations/accept.hpp>
#include <kevring/runtime/operations/connect.hpp>
#include <kevring/runtime/operations/open.hpp>
#include <kevring/runtime/operations/read.hpp>
#include <kevring/runtime/operations/receive.hpp>
#include <kevring/runtime/operations/send.hpp>
#include <kevring/runtime/operations/shutdown.hpp>
#include <kevring/runtime/operations/splice.hpp>
#include <kevring/runtime/operations/statx.hpp>
#include <kevring/runtime/operations/write.hpp>

#include <array>
#include <cstring>
#include <string>

#include <fcntl.h>
#include <linux/openat2.h>
#include <netinet/in.h>
#include <sys/stat.h>
#include <sys/uio.h>

using kevring::ring;
using kevring::task;

namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
    return std::as_bytes(std::span(text));
}

kevring::fd temporary_file() {
    return kevring::fd(::open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
}

}  // namespace

TEST_CASE("bytes written at an offset are read at that offset", "[runtime][read][write]") {
    ring loop;
    const kevring::fd file = temporary_file();
    auto body = [&]() -> task<void> {
        kevring::write_operation write(loop, file, bytes_of("0123456789"), 100);
        const auto written = co_await write;
        CHECK(written.value() == 10);
        std::array<std::byte, 4> buffer{};
        kevring::read_operation read(loop, file, buffer, 103);
        const auto got = co_await read;
        CHECK(got.value() == 4);
        CHECK(std::memcmp(buffer.data(), "3456", 4) == 0);
        kevring::read_operation beyond(loop, file, buffer, 110);
        const auto end = co_await beyond;
        CHECK(end.value() == 0);
    };
    run_on(loop, body);
}

TEST_CASE("parts are written and read in order", "[runtime][read][write]") {
    ring loop;
    const kevring::fd file = temporary_file();
    auto body = [&]() -> task<void> {
        std::string first = "abc";
        std::string second = "defg";
        std::array<iovec, 2> parts{iovec{first.data(), 3}, iovec{second.data(), 4}};
        kevring::writev_operation write(loop, file, parts);
        const auto written = co_await write;
        CHECK(written.value() == 7);
        std::string head(2, ' ');
        std::string tail(9, ' ');
        std::array<iovec, 2> target{iovec{head.data(), 2}, iovec{tail.data(), 9}};
        kevring::readv_operation read(loop, file, target, 0);
        const auto got = co_await read;
        CHECK(got.value() == 7);
        CHECK(head + tail.substr(0, 5) == "abcdefg");
    };
    run_on(loop, body);
}

// A send continues after one: see send.cpp.
TEST_CASE("short counts of reads, writes and receives reach the caller", "[runtime][operations]") {
    scripted_kernel script;
    ring loop({}, script);
    const kevring::fd file = temporary_file();
    socket_pair sockets;
    for (const std::uint8_t opcode : {IORING_OP_READ, IORING_OP_WRITE, IORING_OP_RECV})
        script.shorten(opcode, 3);
    auto body = [&]() -> task<void> {
        kevring::write_operation write(loop, file, bytes_of("0123456789"), 0);
        const auto written = co_await write;
        CHECK(written.value() == 3);
        std::array<std::byte, 10> buffer{};
        kevring::read_operation read(loop, file, buffer, 0);
        const auto got = co_await read;
        CHECK(got.value() == 3);
        sockets.send_from_peer("0123456789");
        kevring::receive_operation receive(loop, sockets.local(), buffer);
        const auto received = co_await receive;
        CHECK(received.value() == 3);
    };
    run_on(loop, body);
}

TEST_CASE("a send waits until all has been taken", "[runtime][send]") {
    ring loop;
    socket_pair sockets;
    const std::size_t filled = sockets.fill();
    const std::string text(100'000, 's');
    std::size_t received = 0;
    auto body = [&]() -> task<void> {
        kevring::send_operation send(loop, sockets.local(), bytes_of(text));
        auto listen = [&]() -> task<void> {
            while (received < filled + text.size()) {
                received += sockets.receive_at_peer().size();
                co_await kevring::yield();
            }
        };
        kevring::task_scope side(loop);
        side.spawn(listen());
        const auto sent = co_await send;
        co_await side.join();
        CHECK(sent.value() == text.size());
    };
    run_on(loop, body);
    CHECK(received == filled + text.size());
}

TEST_CASE("a send to a peer that is gone raises no signal", "[runtime][send]") {
    ring loop;
    socket_pair sockets;
    sockets.close_peer();
    auto body = [&]() -> task<void> {
        kevring::send_operation send(loop, sockets.local(), bytes_of("x"));
        const auto sent = co_await send;
        CHECK(sent.error() == std::errc::broken_pipe);
    };
    run_on(loop, body);
}

TEST_CASE("the end of a stream is a receive of 0 bytes", "[runtime][receive]") {
    ring loop;
    socket_pair sockets;
    sockets.close_peer();
    auto body = [&]() -> task<void> {
        std::array<std::byte, 10> buffer{};
        kevring::receive_operation receive(loop, sockets.local(), buffer);
        const auto got = co_await receive;
        CHECK(got.value() == 0);
    };
    run_on(loop, body);
}

// A stop and the peer's bytes can cross. Bytes taken from the socket are never thrown away.
TEST_CASE("a stop that crosses the bytes loses none of them", "[runtime][receive]") {
    for (const bool bytes_first : {true, false}) {
        CAPTURE(bytes_first);
        ring loop;
        socket_pair sockets;
        std::stop_source stop;
        std::array<std::byte, 16> buffer{};
        kevring::receive_operation receive(loop, sockets.local(), buffer, 0, stop.get_token());
        auto act = [&] {
            if (bytes_first) sockets.send_from_peer("abc");
            stop.request_stop();
            if (!bytes_first) sockets.send_from_peer("abc");
        };
        const auto got = run_on(loop, [&] { return finish(loop, receive, act); });
        std::array<char, 16> left{};
        const ssize_t unread =
            ::recv(sockets.local().number(), left.data(), left.size(), MSG_DONTWAIT);
        const std::size_t in_socket = unread < 0 ? 0 : static_cast<std::size_t>(unread);
        CHECK(got.value_or(0) + in_socket == 3);
    }
}

TEST_CASE("open gives a descriptor that is closed on exec, and close ends it", "[runtime][open]") {
    ring loop;
    auto body = [&]() -> task<void> {
        kevring::open_operation open(loop, kevring::fd_ref(AT_FDCWD), "/dev/null", O_RDONLY);
        auto opened = co_await open;
        REQUIRE(opened.has_value());
        const int number = opened->number();
        CHECK((::fcntl(number, F_GETFD) & FD_CLOEXEC) != 0);
        kevring::close_operation close(loop, std::move(*opened));
        const auto closed = co_await close;
        CHECK(closed.has_value());
        CHECK(::fcntl(number, F_GETFD) == -1);
    };
    run_on(loop, body);
}

TEST_CASE("open with RESOLVE_BENEATH rejects a path outside its directory", "[runtime][open]") {
    ring loop;
    const kevring::fd root(::open("/tmp", O_PATH | O_DIRECTORY | O_CLOEXEC));
    auto body = [&]() -> task<void> {
        kevring::open_operation open(loop, root, "../etc", O_PATH, 0, RESOLVE_BENEATH);
        const auto opened = co_await open;
        CHECK(opened.error() == std::errc::cross_device_link);
    };
    run_on(loop, body);
}

TEST_CASE("statx and file_status agree", "[runtime][statx]") {
    ring loop;
    const kevring::fd file = temporary_file();
    REQUIRE(::ftruncate(file.number(), 12345) == 0);
    auto body = [&]() -> task<void> {
        struct statx asked{};
        kevring::statx_operation ask(loop, file, "", AT_EMPTY_PATH, STATX_SIZE, asked);
        const auto done = co_await ask;
        CHECK(done.has_value());
        CHECK(asked.stx_size == 12345);
        struct stat direct{};
        CHECK(kevring::file_status(loop, file, direct).has_value());
        CHECK(direct.st_size == 12345);
    };
    run_on(loop, body);
}

TEST_CASE("splice moves bytes from a pipe to a socket", "[runtime][splice]") {
    ring loop;
    socket_pair sockets;
    std::array<int, 2> ends{};
    REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
    const kevring::fd out(ends[0]);
    kevring::fd input(ends[1]);
    REQUIRE(::write(input.number(), "through", 7) == 7);
    input.reset();
    auto body = [&]() -> task<void> {
        kevring::splice_operation move(loop, out, -1, sockets.local(), -1, 100);
        const auto moved = co_await move;
        CHECK(moved.value() == 7);
        CHECK(sockets.receive_at_peer() == "through");
        kevring::splice_operation again(loop, out, -1, sockets.local(), -1, 100);
        const auto end = co_await again;
        CHECK(end.value() == 0);
    };
    run_on(loop, body);
}

TEST_CASE("accept and connect meet", "[runtime][accept][connect]") {
    ring loop;
    const loopback_listener listener;
    const sockaddr_in& where = listener.where();
    auto body = [&]() -> task<void> {
        const kevring::fd client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        kevring::connect_operation dial(loop, client, reinterpret_cast<const sockaddr*>(&where),
                                        sizeof where);
        const auto connected = co_await dial;
        CHECK(connected.has_value());
        sockaddr_in peer{};
        unsigned peer_bytes = sizeof peer;
        kevring::accept_operation accept(loop, listener.native(),
                                         reinterpret_cast<sockaddr*>(&peer), &peer_bytes);
        const auto accepted = co_await accept;
        REQUIRE(accepted.has_value());
        CHECK(peer.sin_addr.s_addr == htonl(INADDR_LOOPBACK));
        kevring::shutdown_operation shut(loop, client, SHUT_WR);
        const auto done = co_await shut;
        CHECK(done.has_value());
        std::array<std::byte, 1> buffer{};
        kevring::receive_operation receive(loop, *accepted, buffer);
        const auto end = co_await receive;
        CHECK(end.value() == 0);
    };
    run_on(loop, body);
}
