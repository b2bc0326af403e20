// The hot path of ring.cpp: no allocation, and few system calls.
#include "tests/support/allocations.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/run_on.hpp"
#include "tests/support/socket_pair.hpp"

#include <kevring/runtime/buffer_pool.hpp>
#include <kevring/runtime/operations/receive.hpp>
#include <kevring/runtime/operations/send.hpp>
#include <kevring/runtime/ring.hpp>

#include <cstdint>
#include <iostream>
#include <vector>

using kevring::ring;
using kevring::task;

namespace {

struct totals {
    std::uint64_t message_count = 0;
    std::uint64_t goal = 0;
};

task<void> echo(ring& loop, kevring::fd_ref socket) {
    kevring::receive_stream bytes(loop, socket);
    while (true) {
        const auto got = co_await bytes.next();
        if (!got || got->empty()) co_return;
        kevring::send_operation send(loop, socket, got->bytes());
        const auto sent = co_await send;
        if (!sent) co_return;
    }
}

task<void> send_messages(ring& loop, kevring::fd_ref socket, totals& all) {
    kevring::receive_stream bytes(loop, socket);
    const std::vector<std::byte> message(64);
    while (all.message_count < all.goal) {
        kevring::send_operation send(loop, socket, message);
        const auto sent = co_await send;
        REQUIRE(sent.has_value());
        const auto got = co_await bytes.next();
        REQUIRE(got.has_value());
        ++all.message_count;
    }
}

}  // namespace

// Both ends run on this loop, which handles each message twice, once at each end.
TEST_CASE("echo at 64 connections allocates nothing and enters at most 0.05 times a message",
          "[runtime][steady]") {
    ring loop;
    std::vector<socket_pair> pairs(64);
    totals all;
    std::uint64_t allocations = 0;
    std::uint64_t enters = 0;
    std::uint64_t messages = 0;
    auto body = [&]() -> task<void> {
        kevring::task_scope servers(loop);
        for (socket_pair& each : pairs) servers.spawn(echo(loop, each.peer()));
        {
            all.goal = 20'000;  // warms the pools
            kevring::task_scope clients(loop);
            for (socket_pair& each : pairs) clients.spawn(send_messages(loop, each.local(), all));
            co_await clients.join();
        }
        {
            all.goal = 60'000;
            kevring::task_scope clients(loop);
            for (socket_pair& each : pairs) clients.spawn(send_messages(loop, each.local(), all));
            co_await kevring::yield();
            const std::uint64_t allocations_before = allocation_count();
            const std::uint64_t enters_before = loop.counters().enters;
            const std::uint64_t messages_before = all.message_count;
            while (all.message_count < 55'000) co_await kevring::yield();
            allocations = allocation_count() - allocations_before;
            enters = loop.counters().enters - enters_before;
            messages = all.message_count - messages_before;
            co_await clients.join();
        }
        servers.request_stop();
        co_await servers.join();
    };
    run_on(loop, body);

    CHECK(messages > 30'000);
    if (allocations_are_counted())
        CHECK(allocations == 0);
    else
        std::cout << "allocations are not counted: this build has an allocator of its own\n";
    const double handled = 2.0 * static_cast<double>(messages);
    CHECK(static_cast<double>(enters) <= 0.05 * handled);
}
