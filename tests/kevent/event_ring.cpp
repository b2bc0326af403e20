// event_ring.cpp: the ring of events in one thread, and waiting in a few. event_ring_stress.cpp
// tests many threads, event_ring_model.cpp the orders of their accesses.
#include "tests/support/catch.hpp"

#include <kevring/kevent/event_ring.hpp>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

using kevring::claimed_events;
using kevring::event_ring;

namespace {

using clock = std::chrono::steady_clock;

// A deadline that only a failing test reaches.
clock::time_point in_time() { return clock::now() + std::chrono::seconds(60); }

ukevent numbered(std::uint64_t number) {
    ukevent event{};
    event.id.raw_u64 = number;
    event.type = KEVENT_UNOTIFY;
    event.user_u64 = ~number;
    return event;
}

std::vector<ukevent> numbered(std::uint64_t first, std::size_t count) {
    std::vector<ukevent> events;
    for (std::size_t i = 0; i < count; ++i) events.push_back(numbered(first + i));
    return events;
}

std::vector<std::uint64_t> numbers(const std::vector<ukevent>& events, std::size_t count) {
    std::vector<std::uint64_t> found;
    for (std::size_t i = 0; i < count; ++i) {
        CHECK(events[i].user_u64 == ~events[i].id.raw_u64);
        found.push_back(events[i].id.raw_u64);
    }
    return found;
}

using list = std::vector<std::uint64_t>;

}  // namespace

TEST_CASE("a new ring is empty and as large as asked for, or a little larger",
          "[kevent][event_ring]") {
    CHECK(event_ring(0).capacity() == 2);
    CHECK(event_ring(2).capacity() == 2);
    CHECK(event_ring(5).capacity() == 8);
    CHECK(event_ring(64).capacity() == 64);
    CHECK(event_ring(4).is_empty());
    CHECK_FALSE(event_ring(4).is_full());
}

TEST_CASE("events are claimed in the order in which they were published", "[kevent][event_ring]") {
    event_ring ring(8);
    std::vector<ukevent> target(8);

    CHECK(ring.publish(numbered(10)));
    CHECK(ring.publish(numbered(11, 3)) == 3);
    CHECK(ring.publish(std::span<const ukevent>()) == 0);

    CHECK(ring.claim(std::span(target).first(2)) == claimed_events{0, 2});
    CHECK(numbers(target, 2) == list{10, 11});
    CHECK(ring.claim(std::span(target).first(0)) == claimed_events{2, 0});
    CHECK(ring.claim(target) == claimed_events{2, 2});
    CHECK(numbers(target, 2) == list{12, 13});
    CHECK(ring.claim(target).count == 0);
    CHECK(ring.is_empty());
}

TEST_CASE("a full ring takes the events that fit, and the rest in order after a commit",
          "[kevent][event_ring][K-073]") {
    event_ring ring(4);
    std::vector<ukevent> target(8);
    const std::vector<ukevent> six = numbered(0, 6);

    CHECK(ring.publish(six) == 4);
    CHECK(ring.is_full());
    CHECK_FALSE(ring.publish(numbered(99)));

    // Claiming does not free; committing does, and up to the position only.
    const claimed_events got = ring.claim(target);
    CHECK(got == claimed_events{0, 4});
    CHECK_FALSE(ring.publish(six[4]));
    CHECK(ring.commit(got.first + 1) == 1);
    CHECK(ring.publish(std::span(six).subspan(4)) == 1);
    CHECK(ring.commit(got.end()) == 3);
    CHECK(ring.publish(six[5]));

    CHECK(ring.claim(target) == claimed_events{4, 2});
    CHECK(numbers(target, 2) == list{4, 5});
}

TEST_CASE("many laps keep every event, whatever the sizes of the batches", "[kevent][event_ring]") {
    event_ring ring(8);
    std::vector<ukevent> target(8);
    std::uint64_t published = 0;
    std::uint64_t taken = 0;

    for (std::size_t round = 0; round < 1000; ++round) {
        published += ring.publish(numbered(published, 1 + round % 7));
        const std::size_t count = ring.take(std::span(target).first(1 + round % 5));
        const list found = numbers(target, count);
        for (const std::uint64_t number : found) REQUIRE(number == taken++);
    }
    while (ring.take(std::span(target).first(1)) == 1) REQUIRE(target[0].id.raw_u64 == taken++);

    CHECK(taken == published);
    CHECK(ring.committed() == published);
}

TEST_CASE("commits in any order free each slot once", "[kevent][event_ring][K-079][K-080]") {
    event_ring ring(8);
    std::vector<ukevent> target(3);
    REQUIRE(ring.publish(numbered(0, 6)) == 6);
    const claimed_events a = ring.claim(target);
    const claimed_events b = ring.claim(target);
    REQUIRE(b.end() == 6);

    SECTION("in order") {
        CHECK(ring.commit(a.end()) == 3);
        CHECK(ring.commit(a.end()) == 0);
        CHECK(ring.commit(b.end()) == 3);
    }
    SECTION("out of order") {
        CHECK(ring.commit(b.end()) == 6);
        CHECK(ring.commit(a.end()) == 0);
    }
    CHECK(ring.committed() == 6);
    CHECK(ring.commit(std::uint64_t{7}) == -EINVAL);  // not claimed
}

TEST_CASE("a position can be named by slot and lap, as kevent_commit() has it",
          "[kevent][event_ring][K-078][K-081][K-082][K-083][K-084]") {
    event_ring ring(4);
    std::vector<ukevent> target(4);
    REQUIRE(ring.publish(numbered(0, 3)) == 3);

    CHECK(ring.commit(3, 0) == -EINVAL);  // published, but not claimed
    REQUIRE(ring.claim(target).count == 3);
    CHECK(ring.commit(4, 0) == -EINVAL);
    CHECK(ring.commit(3, 2) == -EOVERFLOW);
    CHECK(ring.commit(3, 0) == 3);
    REQUIRE(ring.publish(numbered(3, 3)) == 3);
    REQUIRE(ring.claim(target).count == 3);
    CHECK(ring.commit(2, 1) == 3);
    CHECK(ring.over() == 1);
    CHECK(ring.commit(2, 0) == 0);

    // Full, at slot 2 of lap 1: all four are slot 2 of lap 2.
    REQUIRE(ring.publish(numbered(6, 4)) == 4);
    REQUIRE(ring.claim(target).count == 4);
    CHECK(ring.commit(2, 1) == 0);
    CHECK(ring.commit(2, 2) == 4);
    CHECK(ring.over() == 2);
    CHECK(ring.commit(3, 0) == -EOVERFLOW);
}

TEST_CASE("laps beyond 32 bits are laps like others", "[kevent][event_ring][K-087]") {
    // Two slots before the lap number, of which 32 bits are visible, wraps to 0.
    const std::uint64_t first = (std::uint64_t{1} << 32) * 4 - 2;
    event_ring ring(4, first);
    std::vector<ukevent> target(4);
    CHECK(ring.is_empty());
    CHECK_FALSE(ring.is_full());
    CHECK(ring.over() == 0xffffffffu);

    std::uint64_t taken = 0;
    for (int round = 0; round < 10; ++round) {
        REQUIRE(ring.publish(numbered(taken, 4)) == 4);
        REQUIRE_FALSE(ring.publish(numbered(0)));
        const claimed_events got = ring.claim(target);
        REQUIRE(got == claimed_events{first + taken, 4});
        REQUIRE(numbers(target, 4) == list{taken, taken + 1, taken + 2, taken + 3});
        taken += 4;
        REQUIRE(ring.commit(2, static_cast<std::uint32_t>(round)) == 4);
        REQUIRE(ring.over() == static_cast<std::uint32_t>(round));
    }
}

TEST_CASE("a wait whose deadline has passed takes the available events", "[kevent][event_ring]") {
    event_ring ring(4);
    std::vector<ukevent> target(4);
    const clock::time_point past = clock::now() - std::chrono::seconds(1);

    CHECK(ring.claim_until(target, past).count == 0);
    REQUIRE(ring.publish(numbered(0, 2)) == 2);
    CHECK(ring.claim_until(target, past).count == 2);
    CHECK(ring.publish_until(numbered(2, 6), past) == 2);
}

TEST_CASE("a wait with an old position returns at once", "[kevent][event_ring][K-075]") {
    event_ring ring(4);
    std::vector<ukevent> target(4);
    const std::uint64_t believed = ring.committed();
    REQUIRE(ring.publish(numbered(0)));
    REQUIRE(ring.take(target) == 1);

    CHECK(ring.claim_until(target, event_ring::never, believed).count == 0);
    REQUIRE(ring.publish(numbered(1)));
    CHECK(ring.claim_until(target, event_ring::never, believed).count == 1);
}

TEST_CASE("a wait with the current position sleeps", "[kevent][event_ring][K-076]") {
    event_ring ring(4);
    std::vector<ukevent> target(4);
    const clock::time_point deadline = clock::now() + std::chrono::milliseconds(30);

    CHECK(ring.claim_until(target, deadline, ring.committed()).count == 0);
    CHECK(clock::now() >= deadline);
}

TEST_CASE("a consumer that sleeps gets the event that comes", "[kevent][event_ring]") {
    event_ring ring(4);
    std::atomic<std::uint64_t> got{0};
    std::jthread consumer([&] {
        ukevent event{};
        if (ring.take_until(std::span(&event, 1), in_time()) == 1) got = event.id.raw_u64;
    });

    REQUIRE(ring.publish(numbered(7)));
    consumer.join();

    CHECK(got == 7);
}

TEST_CASE("a sleeping producer continues when a slot is free", "[kevent][event_ring][K-077]") {
    event_ring ring(2);
    std::atomic<std::size_t> published{0};
    std::vector<ukevent> target(2);
    std::jthread producer([&] { published = ring.publish_until(numbered(0, 7), in_time()); });

    list found;
    while (found.size() < 7) {
        const std::size_t count = ring.take_until(target, in_time());
        REQUIRE(count != 0);
        for (const std::uint64_t number : numbers(target, count)) found.push_back(number);
    }
    producer.join();

    CHECK(published == 7);
    CHECK(found == list{0, 1, 2, 3, 4, 5, 6});
}

TEST_CASE("many sleeping consumers take one event each", "[kevent][event_ring][K-124][K-125]") {
    constexpr std::size_t waiter_count = 8;
    event_ring ring(16);
    std::array<std::atomic<int>, waiter_count> seen{};
    std::atomic<std::size_t> empty_handed{0};
    std::vector<std::jthread> waiters;
    for (std::size_t i = 0; i < waiter_count; ++i) {
        waiters.emplace_back([&] {
            ukevent event{};
            if (ring.take_until(std::span(&event, 1), in_time()) == 1) {
                ++seen[event.id.raw_u64];
            } else {
                ++empty_handed;
            }
        });
    }

    SECTION("in one batch, which wakes one consumer") {
        REQUIRE(ring.publish(numbered(0, waiter_count)) == waiter_count);
    }
    SECTION("one by one") {
        for (std::size_t i = 0; i < waiter_count; ++i) REQUIRE(ring.publish(numbered(i)));
    }
    waiters.clear();

    CHECK(empty_handed == 0);
    for (const std::atomic<int>& count : seen) CHECK(count == 1);
}

TEST_CASE("close ends the waits of both sides and loses nothing", "[kevent][event_ring]") {
    event_ring empty(2);
    event_ring full(2);
    REQUIRE(full.publish(numbered(0, 2)) == 2);
    std::atomic<std::size_t> claimed{99};
    std::atomic<std::size_t> published{99};
    std::jthread consumer([&] {
        ukevent event{};
        claimed = empty.claim_until(std::span(&event, 1), in_time()).count;
    });
    std::jthread producer([&] { published = full.publish_until(numbered(2, 1), in_time()); });

    empty.close();
    full.close();
    consumer.join();
    producer.join();

    CHECK(claimed == 0);
    CHECK(published == 0);
    std::vector<ukevent> target(2);
    CHECK(full.claim_until(target, event_ring::never).count == 2);
    CHECK(full.claim_until(target, event_ring::never).count == 0);
}
