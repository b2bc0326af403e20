// Connections that move from one loop to another, and the ways to spread them over loops.
#include "tests/support/catch.hpp"
#include "tests/support/loop_thread.hpp"
#include "tests/support/run_on.hpp"
#include "tests/support/socket_pair.hpp"

#include <kevring/net/byte_reader.hpp>
#include <kevring/net/connect.hpp>
#include <kevring/net/listener.hpp>
#include <kevring/net/socket.hpp>
#include <kevring/runtime/loop_group.hpp>
#include <kevring/runtime/submit.hpp>

#include <array>
#include <cstddef>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

using kevring::detached_socket;
using kevring::endpoint;
using kevring::fd;
using kevring::result;
using kevring::ring;
using kevring::submit;
using kevring::submitted_task;
using kevring::task;

namespace {

fd copy_of(kevring::fd_ref descriptor) { return fd(::dup(descriptor.number())); }

std::string text_of(const kevring::borrowed_buffer& buffer) {
    return {reinterpret_cast<const char*>(buffer.data()), buffer.size()};
}

int unread_bytes(kevring::fd_ref socket) {
    int byte_count = 0;
    CHECK(::ioctl(socket.number(), FIONREAD, &byte_count) == 0);
    return byte_count;
}

// Receives until `byte_count` bytes have come, or the end.
task<std::string> receive_bytes(kevring::socket& from, std::size_t byte_count) {
    std::string text;
    while (text.size() < byte_count) {
        const auto got = co_await from.receive();
        if (!got || got->empty()) break;
        text += text_of(*got);
    }
    co_return text;
}

// Continues a connection on the loop of the caller.
task<std::string> receive_here(detached_socket detached, std::size_t byte_count) {
    kevring::socket connection(*ring::current(), std::move(detached));
    co_return co_await receive_bytes(connection, byte_count);
}

}  // namespace

TEST_CASE("a connection reaches another loop with all bytes in order", "[net][hand_over]") {
    loop_thread other;
    ring here;
    socket_pair pair;
    auto body = [&]() -> task<std::string> {
        kevring::socket connection(here, copy_of(pair.local()));
        pair.send_from_peer("fir");
        std::string first = co_await receive_bytes(connection, 3);
        pair.send_from_peer("st ");
        const std::string more = co_await receive_bytes(connection, 3);  // leaves a request armed
        first += more;
        pair.send_from_peer("second ");
        for (int i = 0; i < 10'000 && unread_bytes(pair.local()) != 0; ++i)
            co_await kevring::yield();  // until the loop has received it
        pair.send_from_peer("third ");
        auto detached = co_await connection.detach();
        CHECK(detached.has_value());
        CHECK_FALSE(detached->received.empty());
        const auto closed = co_await connection.receive();
        CHECK(closed.error() == std::errc::bad_file_descriptor);
        pair.send_from_peer("fourth");
        submitted_task<std::string> rest =
            submit(other.loop(), receive_here(std::move(*detached), 19));
        co_return first + co_await rest.join();
    };

    CHECK(run_on(here, body) == "first second third fourth");
}

TEST_CASE("a receive that is pending ends, and no byte is lost", "[net][hand_over]") {
    ring here;
    socket_pair pair;
    auto body = [&]() -> task<std::string> {
        kevring::socket connection(here, copy_of(pair.local()));
        kevring::task_scope side(here);
        std::error_code pending;
        auto waiting = [&]() -> task<void> {
            const auto got = co_await connection.receive();
            if (!got) pending = got.error();
        };
        side.spawn(waiting());
        co_await kevring::yield();
        auto detached = co_await connection.detach();
        co_await side.join();
        CHECK(pending == std::errc::operation_canceled);
        pair.send_from_peer("later");
        co_return co_await receive_here(std::move(*detached), 5);
    };

    CHECK(run_on(here, body) == "later");
}

TEST_CASE("a detach in a scope that was stopped still gives the connection away",
          "[net][hand_over]") {
    ring here;
    socket_pair pair;
    auto body = [&]() -> task<std::string> {
        kevring::socket connection(here, copy_of(pair.local()));
        pair.send_from_peer("a");
        static_cast<void>(co_await receive_bytes(connection, 1));
        pair.send_from_peer("b");
        kevring::task_scope stopped(here);
        stopped.request_stop();
        std::optional<detached_socket> detached;
        auto detaching = [&]() -> task<void> {
            auto given = co_await connection.detach();
            if (given) detached.emplace(std::move(*given));
        };
        stopped.spawn(detaching());
        co_await stopped.join();
        CHECK(detached.has_value());
        co_return co_await receive_here(std::move(*detached), 1);
    };

    CHECK(run_on(here, body) == "b");
}

TEST_CASE("detach of a closed socket fails, and of an unused one costs nothing",
          "[net][hand_over]") {
    ring here;
    socket_pair pair;
    auto body = [&]() -> task<void> {
        kevring::socket connection(here, copy_of(pair.local()));
        const auto detached = co_await connection.detach();
        CHECK(detached->descriptor.valid());
        CHECK(detached->received.empty());
        const auto again = co_await connection.detach();
        CHECK(again.error() == std::errc::bad_file_descriptor);
    };

    run_on(here, body);
}

TEST_CASE("the end of the peer is received again by the next loop", "[net][hand_over]") {
    ring here;
    socket_pair pair;
    auto body = [&]() -> task<std::string> {
        kevring::socket connection(here, copy_of(pair.local()));
        pair.send_from_peer("ab");
        const auto first = co_await connection.receive();
        pair.send_from_peer("cd");
        pair.close_peer();
        for (int i = 0; i < 3; ++i) co_await kevring::yield();
        auto detached = co_await connection.detach();
        CHECK(detached.has_value());
        co_return text_of(*first) + co_await receive_here(std::move(*detached), 100);
    };

    CHECK(run_on(here, body) == "abcd");
}

TEST_CASE("bytes that a reader holds travel with the connection", "[net][hand_over]") {
    ring here;
    socket_pair pair;
    auto body = [&]() -> task<std::string> {
        kevring::socket connection(here, copy_of(pair.local()));
        kevring::byte_reader reader(connection);
        pair.send_from_peer("GET /\nHost: a\nrest");
        const auto line = co_await reader.read_line();
        CHECK(line.value() == "GET /");
        auto detached = co_await reader.detach();
        co_return co_await receive_here(std::move(*detached), 12);
    };

    CHECK(run_on(here, body) == "Host: a\nrest");
}

TEST_CASE("any number of bytes can be received before those of the descriptor",
          "[net][hand_over]") {
    ring here;
    socket_pair pair;
    std::vector<std::byte> early(3u << 20);
    for (std::size_t i = 0; i < early.size(); ++i) early[i] = static_cast<std::byte>(i / 1000);
    std::string expected(reinterpret_cast<const char*>(early.data()), early.size());
    expected += "late";
    pair.send_from_peer("late");
    auto body = [&]() -> task<std::string> {
        detached_socket detached(copy_of(pair.local()), early);
        co_return co_await receive_here(std::move(detached), expected.size());
    };

    CHECK(run_on(here, body) == expected);
}

TEST_CASE("a connection that changes its loop while its peer sends loses no byte",
          "[net][hand_over][stress]") {
    loop_thread first;
    loop_thread second;
    socket_pair pair;
    constexpr std::size_t byte_count = 2'000'000;  // more than a few receives take
    std::string sent(byte_count, '\0');
    for (std::size_t i = 0; i < byte_count; ++i) sent[i] = static_cast<char>(i * 7 / 3);
    std::jthread sender([&] {
        std::size_t done = 0;
        while (done < byte_count) {
            const ssize_t count =
                ::send(pair.peer().number(), sent.data() + done,
                       std::min<std::size_t>(1500, byte_count - done), MSG_NOSIGNAL);
            if (count <= 0) return;
            done += static_cast<std::size_t>(count);
        }
    });
    std::string received;
    auto visit = [&](detached_socket detached) -> task<detached_socket> {
        kevring::socket connection(*ring::current(), std::move(detached));
        for (int i = 0; i < 4 && received.size() < byte_count; ++i)
            received += co_await receive_bytes(connection, 1);
        auto given = co_await connection.detach();
        co_return std::move(given.value());
    };
    detached_socket travelling(copy_of(pair.local()));
    int hop_count = 0;
    for (; received.size() + travelling.received.size() < byte_count && hop_count < 5000;
         ++hop_count) {
        ring& target = hop_count % 2 == 0 ? first.loop() : second.loop();
        travelling = submit(target, visit(std::move(travelling))).get();
    }
    received.append(reinterpret_cast<const char*>(travelling.received.data()),
                    travelling.received.size());

    CHECK(received == sent);
    CHECK(hop_count > 1);
}

namespace {

// A server of two loops that counts the connections of each, by one of three ways to accept.
enum class accept_model { reuse_port, shared_listener, hand_over };

constexpr std::size_t loop_count = 2;
constexpr std::size_t client_count = 12;

struct spread {
    std::array<std::uint64_t, loop_count> accepted{};
    std::array<std::uint64_t, loop_count> served{};
};

spread serve_clients(accept_model model) {
    kevring::loop_group group(loop_count);
    const kevring::listener_options options{.reuse_port = model == accept_model::reuse_port};
    fd first =
        kevring::open_listening_socket(endpoint::parse("127.0.0.1:0").value(), options).value();
    endpoint local;
    socklen_t address_bytes = endpoint::capacity();
    REQUIRE(::getsockname(first.number(), local.address(), &address_bytes) == 0);
    local.set_address_bytes(address_bytes);
    fd second = model == accept_model::reuse_port
                    ? kevring::open_listening_socket(local, options).value()
                    : copy_of(first);

    std::array<loop_thread, loop_count> threads;
    spread counts;
    std::vector<kevring::loop_group::membership> members;
    for (loop_thread& each : threads) members.push_back(group.join(each.loop()));
    auto greet = [](detached_socket detached) -> task<void> {
        kevring::socket client(*ring::current(), std::move(detached));
        static_cast<void>(co_await client.send("hello"));
        co_await client.close();
    };
    auto accept = [&](std::size_t index, fd listening) -> task<void> {
        kevring::listener listener(*ring::current(), std::move(listening));
        while (true) {
            auto client = co_await listener.accept();
            counts.accepted[index] = listener.accepted_count();
            if (!client) co_return;
            auto detached = co_await client->detach();
            if (!detached) continue;
            if (model == accept_model::hand_over)
                group.spawn(greet(std::move(*detached)));
            else
                group.spawn_on(index, greet(std::move(*detached)));
        }
    };
    std::vector<submitted_task<void>> acceptors;
    acceptors.push_back(submit(threads[0].loop(), accept(0, std::move(first))));
    if (model != accept_model::hand_over)
        acceptors.push_back(submit(threads[1].loop(), accept(1, std::move(second))));
    ring here;
    auto connect_all = [&]() -> task<int> {
        int greeted_count = 0;
        for (std::size_t i = 0; i < client_count; ++i) {
            auto client = co_await kevring::connect(here, local);
            if (!client) continue;
            const std::string text = co_await receive_bytes(*client, 5);
            if (text == "hello") ++greeted_count;
        }
        co_return greeted_count;
    };
    CHECK(run_on(here, connect_all) == static_cast<int>(client_count));
    for (auto& each : acceptors) each.request_stop();
    for (std::size_t i = 0; i < loop_count; ++i) counts.served[i] = group.counters(i).started_count;
    for (auto& each : acceptors) {
        auto join = [&]() -> task<void> { co_await each.join(); };
        run_on(here, join);
    }
    members.clear();
    for (loop_thread& each : threads) each.finish();
    return counts;
}

}  // namespace

TEST_CASE("every model of accepting serves all clients and counts them by loop",
          "[net][hand_over]") {
    const auto model =
        GENERATE(accept_model::reuse_port, accept_model::shared_listener, accept_model::hand_over);

    const spread counts = serve_clients(model);

    CHECK(counts.accepted[0] + counts.accepted[1] == client_count);
    CHECK(counts.served[0] + counts.served[1] == client_count);
    if (model == accept_model::hand_over) {
        CHECK(counts.accepted[1] == 0);
        // The least loaded of two loops: neither has all clients.
        CHECK(counts.served[0] > 0);
        CHECK(counts.served[1] > 0);
    }
}
