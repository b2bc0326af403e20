// memory.cpp: memory that a ring holds for connections that are fast, large or stopped.
#include "tests/support/catch.hpp"
#include "tests/support/run_on.hpp"
#include "tests/support/socket_pair.hpp"

#include <kevring/net/socket.hpp>
#include <kevring/runtime/buffer_pool.hpp>
#include <kevring/runtime/operations/receive.hpp>
#include <kevring/runtime/sleep.hpp>
#include <kevring/runtime/supervisor_scope.hpp>
#include <kevring/runtime/task_scope.hpp>

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include <malloc.h>
#include <sys/ioctl.h>
#include <unistd.h>

using kevring::buffer_pool;
using kevring::receive_stream;
using kevring::ring;
using kevring::task;
using kevring::task_scope;

namespace {

// The pool of a ring after a burst of small messages, which has made it large.
kevring::buffer_pool_options grown_pool() {
    auto options = kevring::buffer_pool_options::ring_default();
    options.buffer_count = 640;
    return options;
}

std::size_t unread_bytes(kevring::fd_ref socket) {
    int count = 0;
    REQUIRE(::ioctl(socket.number(), FIONREAD, &count) == 0);
    return static_cast<std::size_t>(count);
}

std::size_t memory_of(const buffer_pool& pool) {
    const auto options = kevring::buffer_pool_options::ring_default();
    return pool.resident_bytes() + pool.large_buffer_count() * options.large_buffer_bytes;
}

task<void> receive_all(receive_stream& from, std::size_t byte_count, const buffer_pool& pool,
                       std::size_t& memory_max) {
    while (byte_count > 0) {
        const auto received = co_await from.next();
        REQUIRE(received.has_value());
        REQUIRE_FALSE(received->empty());
        byte_count -= received->size();
        memory_max = std::max(memory_max, memory_of(pool));
    }
}

}  // namespace

#if defined(__GLIBC__) && defined(__OPTIMIZE__)
namespace {

task<void> echo(kevring::socket client) {
    while (true) {
        const auto received = co_await client.receive();
        if (!received || received->empty()) co_return;
        const auto sent = co_await client.send(received->bytes());
        if (!sent) co_return;
    }
}

}  // namespace

// Without optimization, the compiler keeps every temporary of a coroutine in its frame.
TEST_CASE("an idle connection takes at most 1 KiB of user memory", "[net][memory]") {
    constexpr std::size_t connection_count = 500;
    ring loop;
    std::vector<socket_pair> sockets(connection_count);
    std::size_t used_bytes = 0;
    if (::mallinfo2().uordblks == 0) return;  // malloc() is another one's

    run_on(loop, [&]() -> task<void> {
        auto body = [&](kevring::supervisor_scope& clients) -> task<void> {
            const auto serve = [&](socket_pair& pair) {
                kevring::fd local(::dup(pair.local().number()));
                clients.spawn(echo(kevring::socket(loop, std::move(local))));
                pair.send_from_peer("x");
            };
            serve(sockets.front());  // makes the pool
            for (int i = 0; i < 10; ++i) co_await kevring::yield();
            const std::size_t before = ::mallinfo2().uordblks;
            for (std::size_t i = 1; i < connection_count; ++i) serve(sockets[i]);
            for (int i = 0; i < 10; ++i) co_await kevring::yield();
            used_bytes = ::mallinfo2().uordblks - before;
            clients.request_stop();
        };
        co_await kevring::in_scope(body);
    });

    CHECK(used_bytes > 0);
    CHECK(used_bytes / (connection_count - 1) <= 1024);
}
#endif

TEST_CASE("64 connections that receive large messages hold at most 8 MiB", "[net][memory]") {
    ring loop;
    buffer_pool pool(loop, grown_pool());
    const std::vector<socket_pair> sockets(64);
    std::vector<receive_stream> streams;
    for (const socket_pair& each : sockets) streams.emplace_back(loop, each.local(), pool);
    const std::string message(160'000, 'm');  // as much as a Unix socket takes
    std::size_t memory_max = 0;

    run_on(loop, [&]() -> task<void> {
        auto body = [&](task_scope& all) -> task<void> {
            for (receive_stream& each : streams)
                all.spawn(receive_all(each, 3 * message.size(), pool, memory_max));
            for (int round = 0; round < 3; ++round) {
                for (const socket_pair& each : sockets) each.send_from_peer(message);
                while (std::any_of(sockets.begin(), sockets.end(), [](const socket_pair& each) {
                    return unread_bytes(each.local()) > 0;
                }))
                    co_await kevring::yield();
            }
        };
        co_await kevring::in_scope(body);
    });

    CHECK(memory_max > 0);
    CHECK(memory_max <= std::size_t{8} << 20);
    CHECK(pool.borrowed_count() == 0);
}

TEST_CASE("connections whose consumers have stopped hold at most the bound of the pool",
          "[net][memory]") {
    const std::size_t bound = kevring::buffer_pool_options::ring_default().resident_bytes_max +
                              kevring::buffer_pool_options::ring_default().large_buffer_count_max *
                                  kevring::buffer_pool_options::ring_default().large_buffer_bytes;
    constexpr std::size_t connection_count = 400;
    ring loop;
    buffer_pool pool(loop, grown_pool());
    const std::vector<socket_pair> sockets(connection_count);
    std::vector<receive_stream> streams;
    for (const socket_pair& each : sockets) streams.emplace_back(loop, each.local(), pool);
    const std::string message(160'000, 'm');
    std::vector<kevring::borrowed_buffer> held(connection_count);

    run_on(loop, [&]() -> task<void> {
        auto receive_one = [&](std::size_t i) -> task<void> {
            auto received = co_await streams[i].next();
            if (received) held[i] = std::move(*received);
        };
        auto body = [&](task_scope& all) -> task<void> {
            for (std::size_t i = 0; i < connection_count; ++i) all.spawn(receive_one(i));
            for (const socket_pair& each : sockets) each.send_from_peer(message);
            for (int i = 0; i < 50; ++i) co_await kevring::yield();
            all.request_stop();
        };
        co_await kevring::in_scope(body);
    });

    // Bytes that have left the sockets are in the memory of this process.
    std::size_t taken_bytes = 0;
    for (const socket_pair& each : sockets)
        taken_bytes += message.size() - unread_bytes(each.local());
    CHECK(taken_bytes > connection_count * 1000);
    CHECK(taken_bytes <= bound);
    CHECK(memory_of(pool) <= bound);
    held.clear();
}
