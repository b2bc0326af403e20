// publish_to.cpp: loops that publish the events of a queue into a ring for other threads.
#include "tests/kevent/kevent_fixture.hpp"
#include "tests/support/allocations.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/run_on.hpp"

#include <kevring/kevent/event_queue.hpp>
#include <kevring/kevent/event_ring.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <mutex>
#include <new>
#include <set>
#include <thread>
#include <vector>

using kevring::event_queue;
using kevring::event_ring;
using kevring::ring;
using kevring::task;
using kevring::user_event;

namespace {

class counting_listener final : public kevring::space_listener {
public:
    void on_space() noexcept override { ++count; }
    int count = 0;
};

/// Runs publish_to() until `until()` is true, which other threads change, or the deadline.
template <class Until>
task<void> publish_until(event_queue& queue, event_ring& target, Until until) {
    auto body = [&](kevring::task_scope& scope) -> task<void> {
        auto publish = [](event_queue& source, event_ring& events) -> task<void> {
            const auto end = co_await source.publish_to(events);
            // No assertion of the test framework: several threads run this.
            KEVRING_ASSERT(end.error() == std::errc::operation_canceled,
                           "publish_to ended without a stop; see its error");
        };
        scope.spawn(publish(queue, target));
        const auto deadline = kevent_test::now() + kevent_test::half_of_test_timeout;
        while (!until() && kevent_test::now() < deadline) co_await kevring::yield();
        KEVRING_ASSERT(until(), "not all events were published; see publish_to()");
        scope.request_stop();
    };
    co_await kevring::in_scope(body);
}

// User events 0 to `count` - 1, which are ready.
void add_notified(event_queue& queue, std::uint64_t count) {
    for (std::uint64_t id = 0; id < count; ++id) {
        REQUIRE(queue.add(user_event(id)));
        REQUIRE(queue.notify(user_event(id)));
    }
}

std::uint64_t take_one(event_ring& events) {
    ukevent record{};
    REQUIRE(events.take_until({&record, 1},
                              kevent_test::now() + kevent_test::half_of_test_timeout) == 1);
    return record.id.raw_u64;
}

}  // namespace

TEST_CASE("a listener is called by the first commit that frees a slot", "[kevent][event_ring]") {
    event_ring events(2);
    counting_listener listener;
    counting_listener other;
    CHECK_FALSE(events.listen_for_space(listener));
    const ukevent record{};
    CHECK(events.publish(record));
    CHECK(events.publish(record));

    CHECK(events.listen_for_space(listener));
    CHECK_FALSE(events.listen_for_space(other));
    take_one(events);
    take_one(events);
    CHECK(listener.count == 1);
    CHECK(other.count == 0);
    CHECK_FALSE(events.stop_listening_for_space(listener));

    CHECK(events.publish(record));
    CHECK(events.publish(record));
    CHECK(events.listen_for_space(listener));
    CHECK(events.stop_listening_for_space(listener));
    take_one(events);
    CHECK(listener.count == 1);
}

TEST_CASE("a loop publishes each event once to threads without a loop",
          "[kevent][event_queue][event_ring]") {
    constexpr std::size_t count = 200;
    ring loop;
    event_ring events(8);
    event_queue queue;
    for (std::uint64_t id = 0; id < count; ++id) {
        REQUIRE(queue.add(user_event(id), {}, kevring::repeat::once));
        REQUIRE(queue.notify(user_event(id)));
    }
    std::mutex mutex;
    std::set<std::uint64_t> seen;
    std::atomic<std::size_t> taken{0};
    const auto work = [&] {
        std::array<ukevent, 4> records;
        while (const std::size_t found = events.take_until(records, event_ring::never)) {
            const std::lock_guard held(mutex);
            for (std::size_t i = 0; i < found; ++i) seen.insert(records[i].id.raw_u64);
            taken += found;
        }
    };
    std::thread first(work);
    std::thread second(work);

    run_on(loop, [&]() -> task<void> {
        co_await publish_until(queue, events, [&] { return taken == count; });
    });
    events.close();
    first.join();
    second.join();

    CHECK(taken == count);
    CHECK(seen.size() == count);
}

TEST_CASE("events for which a ring has no space keep their order, also after a stop",
          "[kevent][event_queue][event_ring]") {
    ring loop;
    event_ring events(2);
    event_queue queue;
    for (std::uint64_t id = 0; id < 7; ++id) {
        REQUIRE(queue.add(user_event(id)));
        REQUIRE(queue.notify(user_event(id)));
    }
    const auto publish_two = [&]() -> task<void> {
        co_await publish_until(queue, events, [&] { return events.is_full(); });
    };
    run_on(loop, publish_two);
    CHECK(take_one(events) == 0);
    CHECK(take_one(events) == 1);

    run_on(loop, publish_two);
    std::vector<std::uint64_t> rest;
    std::thread consumer([&] {
        for (int i = 0; i < 5; ++i) {
            ukevent record{};
            events.take_until({&record, 1}, event_ring::never);
            rest.push_back(record.id.raw_u64);
        }
        events.close();
    });
    run_on(loop, [&]() -> task<void> {
        co_await publish_until(queue, events, [&] { return events.is_closed(); });
    });
    consumer.join();
    CHECK(rest == std::vector<std::uint64_t>{2, 3, 4, 5, 6});
}

TEST_CASE("publish_to() loses no event when an allocation fails",
          "[kevent][event_queue][event_ring][memory]") {
    if (!allocations_are_counted()) return;
    constexpr std::size_t count = 4;
    bool has_failed = true;
    for (std::uint64_t good_ones = 0; has_failed; ++good_ones) {
        REQUIRE(good_ones < 100);
        CAPTURE(good_ones);
        ring loop;
        event_ring events(count);
        event_queue queue(loop);
        add_notified(queue, count);
        has_failed = false;
        const auto publish = [&]() -> task<void> {
            try {
                const failing_allocation one(good_ones);
                const auto end = co_await queue.publish_to(events);
                CHECK(end.error() == std::errc::operation_canceled);
            } catch (const std::bad_alloc&) {
                has_failed = true;
            }
        };
        const auto body = [&](kevring::task_scope& scope) -> task<void> {
            scope.spawn(publish());
            const auto deadline = kevent_test::now() + kevent_test::half_of_test_timeout;
            while (!has_failed && !events.is_full() && kevent_test::now() < deadline)
                co_await kevring::yield();
            scope.request_stop();
        };
        run_on(loop, [&]() -> task<void> {
            co_await kevring::in_scope(body);
            co_await publish_until(queue, events, [&] { return events.is_full(); });
        });
        for (std::uint64_t id = 0; id < count; ++id) CHECK(take_one(events) == id);
    }
}

TEST_CASE("wait() and poll() lose no event when an allocation fails",
          "[kevent][event_queue][memory]") {
    if (!allocations_are_counted()) return;
    constexpr std::size_t count = 4;
    const bool waits = GENERATE(true, false);
    CAPTURE(waits);
    bool has_failed = true;
    for (std::uint64_t good_ones = 0; has_failed; ++good_ones) {
        REQUIRE(good_ones < 100);
        CAPTURE(good_ones);
        ring loop;
        event_queue queue(loop);
        add_notified(queue, count);
        std::vector<std::uint64_t> seen;
        seen.reserve(count);
        const auto take = [&]() -> task<void> {
            has_failed = false;
            try {
                const failing_allocation one(good_ones);
                if (waits) {
                    const auto events = co_await queue.wait(3, 3);
                    for (const auto& each : *events) seen.push_back(each.record().id.raw_u64);
                } else {
                    for (const auto& each : queue.poll(3)) seen.push_back(each.record().id.raw_u64);
                }
            } catch (const std::bad_alloc&) {
                has_failed = true;
            }
            for (const auto& each : queue.poll(count)) seen.push_back(each.record().id.raw_u64);
        };
        run_on(loop, take);
        CHECK(seen == std::vector<std::uint64_t>{0, 1, 2, 3});
    }
}

TEST_CASE("two loops publish into one ring", "[kevent][event_queue][event_ring][threads]") {
    constexpr std::size_t count = 100;
    event_ring events(4);
    std::atomic<std::size_t> taken{0};
    std::array<std::vector<std::uint64_t>, 2> seen;
    std::thread consumer([&] {
        ukevent record{};
        while (events.take_until({&record, 1}, event_ring::never) != 0) {
            seen[record.id.raw_u64 / count].push_back(record.id.raw_u64 % count);
            ++taken;
        }
    });
    const auto produce = [&](std::uint64_t first) {
        ring loop;
        event_queue queue;
        for (std::uint64_t id = first; id < first + count; ++id) {
            KEVRING_ASSERT(queue.add(user_event(id)) && queue.notify(user_event(id)),
                           "test setup: a user event was refused; see event_queue::add()");
        }
        run_on(loop, [&]() -> task<void> {
            co_await publish_until(queue, events, [&] { return taken == 2 * count; });
        });
    };
    std::thread first([&] { produce(0); });
    std::thread second([&] { produce(count); });
    first.join();
    second.join();
    events.close();
    consumer.join();

    for (const auto& ids : seen) {
        REQUIRE(ids.size() == count);
        for (std::size_t i = 0; i < count; ++i) CHECK(ids[i] == i);
    }
}
