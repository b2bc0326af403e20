// send.cpp: the sending side of a socket object.
#include "tests/support/catch.hpp"
#include "tests/support/child_process.hpp"
#include "tests/support/run_on.hpp"
#include "tests/support/socket_pair.hpp"

#include <kevring/net/socket.hpp>

#include <chrono>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fcntl.h>

using kevring::ring;
using kevring::send_result;
using kevring::task;

namespace {

kevring::fd duplicate(kevring::fd_ref from) {
    return kevring::fd(::fcntl(from.number(), F_DUPFD_CLOEXEC, 0));
}

}  // namespace

TEST_CASE("a second send at once fails without a byte, and the first is whole", "[net][send]") {
    ring loop;
    const socket_pair sockets;
    kevring::socket client(loop, duplicate(sockets.local()));
    const std::size_t filled = sockets.fill();
    const std::string text(100'000, 's');
    std::size_t received = 0;

    run_on(loop, [&]() -> task<void> {
        kevring::task_scope side(loop);
        auto first = [&]() -> task<void> {
            const send_result sent = co_await client.send(text);
            CHECK(sent.has_value());
            CHECK(sent.bytes_sent() == text.size());
        };
        side.spawn(first());
        co_await kevring::yield();
        const send_result second = co_await client.send("second");
        CHECK_FALSE(second.has_value());
        CHECK(second.error() == std::errc::connection_already_in_progress);
        CHECK(second.bytes_sent() == 0);
        while (received < filled + text.size()) {
            received += sockets.receive_at_peer().size();
            co_await kevring::yield();
        }
        co_await side.join();
        const send_result third = co_await client.send("third");
        CHECK(third.has_value());
    });

    CHECK(sockets.receive_at_peer() == "third");
}

TEST_CASE("a send that was stopped leaves its socket to the next", "[net][send]") {
    ring loop;
    const socket_pair sockets;
    kevring::socket client(loop, duplicate(sockets.local()));
    sockets.fill();

    run_on(loop, [&]() -> task<void> {
        {
            const auto limit = co_await kevring::within(std::chrono::milliseconds(1));
            const send_result late = co_await client.send("late");
            CHECK(late.error() == std::errc::timed_out);
            const send_result later = co_await client.send("later");
            CHECK(later.error() == std::errc::timed_out);
        }
        while (!sockets.receive_at_peer().empty()) {}
        const send_result next = co_await client.send("next");
        CHECK(next.has_value());
    });

    CHECK(sockets.receive_at_peer() == "next");
}

TEST_CASE("a send on a socket that was moved from or released fails", "[net][send]") {
    ring loop;
    const socket_pair sockets;
    kevring::socket client(loop, duplicate(sockets.local()));
    const bool moves = GENERATE(true, false);
    CAPTURE(moves);

    run_on(loop, [&]() -> task<void> {
        kevring::fd taken;
        if (moves) {
            kevring::socket other = std::move(client);
            taken = other.release();
        } else {
            taken = client.release();
        }
        const send_result sent = co_await client.send("x");
        CHECK_FALSE(sent.has_value());
        CHECK(sent.error() == std::errc::bad_file_descriptor);
        CHECK(sent.bytes_sent() == 0);
        CHECK(sockets.receive_at_peer().empty());
    });
}

TEST_CASE("a send of an empty list on a released socket fails", "[net][send]") {
    ring loop;
    socket_pair sockets;
    kevring::socket connected(loop, kevring::fd(::dup(sockets.local().number())));
    auto body = [&]() -> task<void> {
        const std::vector<std::string> none;
        const auto sent = co_await connected.send(none);
        CHECK(sent.value() == 0);
        const kevring::fd released = connected.release();
        const auto refused = co_await connected.send(none);
        CHECK(refused.error() == std::errc::bad_file_descriptor);
    };
    run_on(loop, body);
}

TEST_CASE("a socket object with a pending send is not destroyed", "[net][send][assertions]") {
    const child_outcome outcome = run_in_child([&] {
        ring loop;
        const socket_pair sockets;
        std::optional<kevring::socket> client(std::in_place, loop, duplicate(sockets.local()));
        sockets.fill();
        run_on(loop, [&]() -> task<void> {
            kevring::task_scope side(loop);
            auto send = [&]() -> task<void> {
                const send_result sent = co_await client->send("x");
                static_cast<void>(sent);
            };
            side.spawn(send());
            co_await kevring::yield();
            client.reset();
            co_await side.join();
        });
    });

    CHECK(
        outcome.asserted("socket or stream destroyed while an await on it is pending; stop and "
                         "join the awaiting task first"));
}

// The kernel has the request, or gets it with its cancel: no later owner of the number is sent to.
TEST_CASE("a send that is pending ends with the release or close of its socket", "[net][send]") {
    const bool closes = GENERATE(false, true);
    const bool is_submitted = GENERATE(false, true);
    CAPTURE(closes, is_submitted);
    ring loop;
    const socket_pair sockets;
    kevring::socket client(loop, duplicate(sockets.local()));
    const int number = client.native().number();
    sockets.fill();
    const socket_pair others;

    run_on(loop, [&]() -> task<void> {
        kevring::task_scope side(loop);
        auto send = [&]() -> task<void> {
            const send_result sent = co_await client.send(std::string(1 << 20, 's'));
            CHECK_FALSE(sent.has_value());
            CHECK(sent.error() == std::errc::operation_canceled);
        };
        side.spawn(send());
        if (is_submitted) co_await kevring::yield();
        if (closes) {
            co_await client.close(std::chrono::milliseconds(0));
        } else {
            client.release().reset();
        }
        const kevring::fd reused(::fcntl(others.local().number(), F_DUPFD_CLOEXEC, number));
        CHECK(reused.number() == number);
        co_await side.join();
        CHECK(others.receive_at_peer().empty());
    });
}

TEST_CASE("a socket object is moved while a send is pending", "[net][send]") {
    ring loop;
    const socket_pair sockets;
    kevring::socket client(loop, duplicate(sockets.local()));
    const std::size_t filled = sockets.fill();

    run_on(loop, [&]() -> task<void> {
        kevring::task_scope side(loop);
        auto send = [&]() -> task<void> {
            const send_result sent = co_await client.send("moved");
            CHECK(sent.has_value());
        };
        side.spawn(send());
        co_await kevring::yield();
        kevring::socket other = std::move(client);
        const send_result second = co_await other.send("second");
        CHECK(second.error() == std::errc::connection_already_in_progress);
        sockets.drain_peer(filled);
        co_await side.join();
        const send_result third = co_await other.send("third");
        CHECK(third.has_value());
    });
}
