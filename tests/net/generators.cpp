// Accept, receive, events and ready items as generators.
#include "tests/support/catch.hpp"
#include "tests/support/run_on.hpp"
#include "tests/support/socket_pair.hpp"

#include <kevring/kevent/event_generator.hpp>
#include <kevring/net/connect.hpp>
#include <kevring/net/generators.hpp>
#include <kevring/runtime/channel.hpp>
#include <kevring/runtime/ready_items.hpp>

#include <range/v3/range/conversion.hpp>
#include <range/v3/view/transform.hpp>

#include <string>
#include <system_error>
#include <vector>

#include <unistd.h>

using kevring::ring;
using kevring::task;
using namespace std::chrono_literals;

TEST_CASE("a generator gives the connections of a listener until its error", "[net][generators]") {
    ring loop;
    auto body = [&]() -> task<void> {
        auto bound = kevring::listener::bind(loop, kevring::endpoint::parse("127.0.0.1:0").value());
        kevring::listener& listener = bound.value();
        const kevring::endpoint local = listener.local().value();
        std::error_code failure;
        {
            auto connections = kevring::accepted_connections(listener, failure);
            for (int i = 0; i < 2; ++i) {
                const auto client = co_await kevring::connect(loop, local);
                CHECK(client.has_value());
                const auto accepted = co_await connections.next();
                CHECK(accepted.has_value());
            }
            const auto late = co_await kevring::with_timeout(connections.next(), 1ms);
            CHECK_FALSE(late.has_value());
            CHECK(failure == std::errc::timed_out);
        }
        auto connections = kevring::accepted_connections(listener, failure);
        const auto client = co_await kevring::connect(loop, local);
        CHECK(client.has_value());
        const auto accepted = co_await connections.next();
        CHECK(accepted.has_value());
    };

    run_on(loop, body);
}

TEST_CASE("a generator gives the bytes of a socket until its end", "[net][generators]") {
    ring loop;
    socket_pair pair;
    auto body = [&]() -> task<std::string> {
        kevring::socket connection(loop, kevring::fd(::dup(pair.local().number())));
        std::error_code failure;
        auto buffers = kevring::received_buffers(connection, failure);
        std::string text;
        pair.send_from_peer("one ");
        const auto first = co_await buffers.next();
        text.assign(reinterpret_cast<const char*>(first->data()), first->size());
        pair.send_from_peer("two");
        pair.close_peer();
        while (true) {
            const auto next = co_await buffers.next();
            if (!next) break;
            text.append(reinterpret_cast<const char*>(next->data()), next->size());
        }
        CHECK_FALSE(failure);
        co_return text;
    };

    CHECK(run_on(loop, body) == "one two");
}

TEST_CASE("a generator gives the events of a queue", "[net][generators]") {
    ring loop;
    auto body = [&]() -> task<int> {
        kevring::event_queue queue;
        queue.add(kevring::timer(1ms), 7u).value();
        std::error_code failure;
        auto events = kevring::queued_events(queue, failure);
        const auto event = co_await events.next();
        const auto late = co_await kevring::with_timeout(events.next(), 1ms);
        static_cast<void>(late);
        co_return event ? static_cast<int>(event->user_data<unsigned>()) : 0;
    };

    CHECK(run_on(loop, body) == 7);
}

TEST_CASE("the items of a channel that are ready are a range", "[net][generators]") {
    kevring::channel<int> numbers(8);
    for (int i = 0; i < 5; ++i) REQUIRE(numbers.try_send(int(i)));

    auto two = kevring::ready_items(numbers, 2);
    const auto same = ranges::views::transform([](int each) { return each; });
    const auto first = two | same | ranges::to<std::vector>();
    CHECK(first == std::vector<int>{0, 1});
    std::vector<int> rest;
    for (const int each : kevring::ready_items(numbers)) rest.push_back(each);
    CHECK(rest == std::vector<int>{2, 3, 4});
    CHECK(numbers.size() == 0);
}
