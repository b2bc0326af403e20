// Channels: order, close, select, and items that cross loops.
#include "tests/support/allocations.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/run_on.hpp"
#include "tests/support/scripted_kernel.hpp"
#include "tests/support/socket_pair.hpp"

#include <kevring/runtime/channel.hpp>
#include <kevring/runtime/latch.hpp>
#include <kevring/runtime/operations/receive.hpp>
#include <kevring/runtime/when.hpp>

#include <array>
#include <atomic>
#include <memory>
#include <numeric>
#include <optional>
#include <ranges>
#include <string>
#include <vector>

using kevring::result;
using kevring::ring;
using kevring::task;
using kevring::task_scope;
using kevring::yield;
using namespace std::chrono_literals;

TEMPLATE_TEST_CASE("items arrive in order, whatever the capacity", "[runtime][channel]",
                   kevring::channel<int>, kevring::cross_loop::channel<int>) {
    ring loop;
    const std::size_t capacity = GENERATE(0u, 1u, 3u, 100u);
    auto body = [&]() -> task<void> {
        TestType items(capacity);
        std::vector<int> received;
        auto producer = [&]() -> task<void> {
            for (int i = 0; i < 50; ++i) {
                const auto sent = co_await items.send(i);
                CHECK(sent.has_value());
                CHECK(items.size() <= capacity);
            }
            items.close();
        };
        auto consumer = [&]() -> task<void> {
            while (true) {
                const auto item = co_await items.receive();
                if (!item) {
                    CHECK(item.error() == std::errc::broken_pipe);
                    co_return;
                }
                received.push_back(*item);
            }
        };
        task_scope scope(loop);
        const bool consumer_first = GENERATE(true, false);
        if (consumer_first) scope.spawn(consumer());
        scope.spawn(producer());
        if (!consumer_first) scope.spawn(consumer());
        co_await scope.join();
        std::vector<int> expected(50);
        std::iota(expected.begin(), expected.end(), 0);
        CHECK(received == expected);
    };
    run_on(loop, body);
}

TEMPLATE_TEST_CASE("senders and receivers that wait are served in order", "[runtime][channel]",
                   kevring::channel<int>, kevring::cross_loop::channel<int>) {
    ring loop;
    auto body = [&]() -> task<void> {
        TestType items(1);
        std::vector<int> order;
        auto send = [&](int item) -> task<void> {
            const auto sent = co_await items.send(item);
            order.push_back(sent ? item : -item);
        };
        auto receive = [&](int number) -> task<void> {
            const auto item = co_await items.receive();
            order.push_back(item ? 100 * number + *item : -100 * number);
        };
        task_scope scope(loop);
        task_scope stopped(loop);
        scope.spawn(send(1));
        stopped.spawn(send(2));
        scope.spawn(send(3));
        co_await yield();
        CHECK(order == std::vector<int>{1});
        stopped.request_stop();
        co_await stopped.join();
        CHECK(order == std::vector<int>{1, -2});
        CHECK(items.try_receive() == 1);
        co_await yield();
        CHECK(order == std::vector<int>{1, -2, 3});
        CHECK(items.try_receive() == 3);
        CHECK(!items.try_receive().has_value());
        co_await scope.join();

        order.clear();
        task_scope others(loop);
        scope.spawn(receive(1));
        others.spawn(receive(2));
        scope.spawn(receive(3));
        co_await yield();
        others.request_stop();
        co_await others.join();
        CHECK(items.try_send(7));
        CHECK(items.try_send(8));
        co_await scope.join();
        CHECK(order == std::vector<int>{-200, 107, 308});
    };
    run_on(loop, body);
}

TEMPLATE_TEST_CASE("a closed channel gives what it holds, and refuses what comes",
                   "[runtime][channel]", kevring::channel<std::unique_ptr<int>>,
                   kevring::cross_loop::channel<std::unique_ptr<int>>) {
    ring loop;
    auto body = [&]() -> task<void> {
        TestType items(2);
        std::vector<std::errc> errors;
        auto send = [&]() -> task<void> {
            const auto sent = co_await items.send(std::make_unique<int>(3));
            CHECK(sent.error() == std::errc::broken_pipe);
        };
        CHECK(items.try_send(std::make_unique<int>(1)));
        CHECK(items.try_send(std::make_unique<int>(2)));
        auto kept = std::make_unique<int>(9);
        CHECK_FALSE(items.try_send(kept));
        CHECK(kept != nullptr);
        task_scope scope(loop);
        scope.spawn(send());
        co_await yield();
        items.close();
        items.close();
        co_await scope.join();
        const auto late = co_await items.send(std::make_unique<int>(4));
        CHECK(late.error() == std::errc::broken_pipe);
        const auto first = co_await items.receive();
        CHECK(**first == 1);
        CHECK(**items.try_receive() == 2);
        const auto none = co_await items.receive();
        CHECK(none.error() == std::errc::broken_pipe);

        TestType empty(0);
        auto receive = [&]() -> task<void> {
            const auto item = co_await empty.receive();
            CHECK(item.error() == std::errc::broken_pipe);
        };
        scope.spawn(receive());
        co_await yield();
        empty.close();
        co_await scope.join();
    };
    run_on(loop, body);
}

TEST_CASE("a deadline ends a send and a receive", "[runtime][channel]") {
    scripted_kernel script;
    script.clock_ns = 1'000'000'000;
    ring loop({}, script);
    auto body = [&]() -> task<void> {
        kevring::channel<int> items(0);
        const auto received = co_await kevring::with_timeout(items.receive(), 1ms);
        CHECK(received.error() == std::errc::timed_out);
        const auto sent = co_await kevring::with_timeout(items.send(1), 1ms);
        CHECK(sent.error() == std::errc::timed_out);
        CHECK(!items.try_receive().has_value());  // it was not sent
    };
    run_on(loop, body);
}

TEMPLATE_TEST_CASE("select takes one item, and the others stay in their channels",
                   "[runtime][channel]", kevring::channel<int>, kevring::cross_loop::channel<int>) {
    ring loop;
    auto body = [&]() -> task<void> {
        const std::size_t capacity = GENERATE(0u, 1u, 4u);
        TestType a(capacity);
        TestType b(capacity);
        socket_pair sockets;
        kevring::receive_stream bytes(loop, sockets.local());
        std::vector<int> from_a;
        std::vector<int> from_b;
        std::string text;
        auto produce = [&](TestType& target, int first) -> task<void> {
            for (int i = 0; i < 40; ++i) {
                const auto sent = co_await target.send(first + i);
                CHECK(sent.has_value());
                for (int y = 0; y < i % 3; ++y) co_await yield();
            }
        };
        auto produce_bytes = [&]() -> task<void> {
            for (int i = 0; i < 40; ++i) {
                sockets.send_from_peer("x");
                co_await yield();
            }
        };
        task_scope scope(loop);
        scope.spawn(produce(a, 0));
        scope.spawn(produce(b, 1000));
        scope.spawn(produce_bytes());
        while (from_a.size() < 40 || from_b.size() < 40 || text.size() < 40) {
            auto next = co_await kevring::select(a.receive(), b.receive(), bytes.next(),
                                                 kevring::sleep_for(10s));
            REQUIRE(next.index != 3);
            if (next.index == 0) from_a.push_back(**std::get<0>(next.values));
            if (next.index == 1) from_b.push_back(**std::get<1>(next.values));
            if (next.index == 2) {
                const auto& piece = **std::get<2>(next.values);
                text.append(reinterpret_cast<const char*>(piece.data()), piece.size());
            }
        }
        co_await scope.join();
        for (int i = 0; i < 40; ++i) {
            CHECK(from_a[static_cast<std::size_t>(i)] == i);
            CHECK(from_b[static_cast<std::size_t>(i)] == 1000 + i);
        }
        CHECK(text == std::string(40, 'x'));
    };
    run_on(loop, body);
}

TEMPLATE_TEST_CASE("an item that a loser puts back is the next one", "[runtime][channel]",
                   kevring::channel<int>, kevring::cross_loop::channel<int>) {
    ring loop;
    auto body = [&]() -> task<void> {
        const std::size_t capacity = GENERATE(0u, 1u, 2u);
        TestType items(capacity);
        auto give_then_win = [&]() -> task<int> {
            co_await yield();
            CHECK(items.try_send(1));  // given to the receiver, which has not run
            for (int i = 0; i < static_cast<int>(capacity); ++i) CHECK(items.try_send(2 + i));
            co_return 0;
        };
        const auto lost = co_await kevring::when_any(items.receive(), give_then_win());
        CHECK(lost.index == 1);
        CHECK(!std::get<0>(lost.values).has_value());
        for (int i = 0; i <= static_cast<int>(capacity); ++i) {
            const auto item = co_await items.receive();
            CHECK(item.value() == 1 + i);
        }
        // Or it is given to the receiver that waits.
        int received = 0;
        auto receive = [&]() -> task<void> {
            const auto item = co_await items.receive();
            received = item.value();
        };
        auto race = [&]() -> task<void> {
            const auto outcome = co_await kevring::when_any(items.receive(), give_then_win());
            CHECK(outcome.index == 1);
        };
        task_scope scope(loop);
        if (capacity == 0) {
            scope.spawn(race());
            scope.spawn(receive());
            co_await scope.join();
            CHECK(received == 1);
        }
    };
    run_on(loop, body);
}

TEMPLATE_TEST_CASE("ranges are sent and received", "[runtime][channel]", kevring::channel<int>,
                   kevring::cross_loop::channel<int>) {
    ring loop;
    auto body = [&]() -> task<void> {
        TestType items(4);
        std::vector<int> received;
        auto send = [&]() -> task<void> {
            const auto sent = co_await items.send_range(std::views::iota(0, 30));
            CHECK(sent.count == 30);
            CHECK(!sent.failure);
            items.close();
            const std::vector<int> more{1, 2};
            const auto refused = co_await items.send_range(std::views::all(more));
            CHECK(refused.count == 0);
            CHECK(refused.failure == std::errc::broken_pipe);
        };
        task_scope scope(loop);
        scope.spawn(send());
        const auto some = co_await items.receive_range(3);
        CHECK(*some == std::vector<int>{0, 1, 2});
        received = *some;
        auto stream = items.items();
        while (auto item = co_await stream.next()) received.push_back(*item);
        co_await scope.join();
        std::vector<int> expected(30);
        std::iota(expected.begin(), expected.end(), 0);
        CHECK(received == expected);
    };
    run_on(loop, body);
}

TEST_CASE("sending and receiving allocates nothing", "[runtime][channel]") {
    if (!allocations_are_counted()) return;
    ring loop;
    auto body = [&]() -> task<void> {
        kevring::channel<int> items(2);
        auto send = [&]() -> task<void> {
            for (int i = 0; i < 2000; ++i) {
                const auto sent = co_await items.send(i);
                REQUIRE(sent.has_value());
            }
        };
        task_scope scope(loop);
        scope.spawn(send());
        const std::uint64_t before = allocation_count();
        for (int i = 0; i < 2000; ++i) {
            const auto item = co_await items.receive();
            REQUIRE(item.has_value());
        }
        CHECK(allocation_count() == before);
        co_await scope.join();
    };
    run_on(loop, body);
}

// Each item is received once, with stops and races in between.
TEST_CASE("loops pass items to each other and lose none", "[runtime][channel][threads]") {
    constexpr int item_count = 3000;
    constexpr unsigned thread_count = 4;
    const std::size_t capacity = GENERATE(0u, 1u, 16u);
    kevring::cross_loop::channel<int> items(capacity);
    std::array<std::atomic<int>, item_count> seen{};
    std::atomic<int> received{0};
    kevring::cross_loop::latch senders_done(2);
    auto body = [&](unsigned index) -> task<void> {
        const auto limit = co_await kevring::within(test_deadline);
        if (index < 2) {
            for (int i = static_cast<int>(index); i < item_count; i += 2) {
                while (true) {
                    const auto sent = co_await kevring::with_timeout(items.send(i), 50us);
                    if (sent) break;
                    if (sent.error() != std::errc::timed_out || limit.expired()) co_return;
                }
            }
            senders_done.count_down();
            if (index == 0) {
                const auto done = co_await senders_done.wait();
                if (done) items.close();
            }
            co_return;
        }
        const auto note = [&](int item) {
            ++seen[static_cast<std::size_t>(item)];
            ++received;
        };
        while (true) {
            auto next = co_await kevring::when_any(items.receive(), kevring::sleep_for(20us));
            if (next.error) co_return;
            const auto& item = std::get<0>(next.values);
            if (!item) continue;
            if (*item)
                note(**item);
            else if (item->error() == std::errc::broken_pipe)
                co_return;
        }
    };
    kevring::run(thread_count, body);
    CHECK(received == item_count);
    for (const auto& each : seen) REQUIRE(each == 1);
}
