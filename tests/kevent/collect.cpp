// collect.cpp: kevent_get_events, kevent_wait and kevent_commit.
#include "tests/kevent/kevent_fixture.hpp"

#include <atomic>
#include <csignal>
#include <thread>

#include <pthread.h>

using namespace kevent_test;

namespace {

void add_user_events(queue& q, std::uint64_t count) {
    for (std::uint64_t id = 0; id < count; ++id) q.add(user_event(id));
}
void fire_user_events(queue& q, std::uint64_t first, std::uint64_t count) {
    for (std::uint64_t id = first; id < first + count; ++id) REQUIRE(q.ready(user_event(id)) == 1);
}
int get(queue& q, unsigned min_count, unsigned max_count, timespec timeout, unsigned flags = 0) {
    std::vector<ukevent> records(max_count + 1);
    return kevent_get_events(q.number(), min_count, max_count, timeout, records.data(), flags);
}
timespec wall_clock_plus(long ms) {
    timespec time{};
    ::clock_gettime(CLOCK_REALTIME, &time);
    time.tv_nsec += ms * 1'000'000;
    time.tv_sec += time.tv_nsec / 1'000'000'000;
    time.tv_nsec %= 1'000'000'000;
    return time;
}

}  // namespace

TEST_CASE("records come in the order in which they became ready", "[kevent][collect][K-056]") {
    queue q;
    std::vector<connected_pair> peers;
    for (int i = 0; i < 4; ++i) {
        peers.push_back(connected_pair::sockets());
        q.add(record(KEVENT_SOCKET, peers.back().local(), KEVENT_SOCKET_RECV));
    }
    add_user_events(q, 4);

    for (const std::size_t i : {2u, 0u, 3u, 1u}) peers[i].send_from_peer();
    auto got = q.get(4);
    REQUIRE(got.size() == 4);
    std::size_t index = 0;
    for (const std::size_t i : {2u, 0u, 3u, 1u})
        CHECK(got[index++].id.raw[0] == static_cast<std::uint32_t>(peers[i].local()));

    for (const std::uint64_t id : {3u, 1u, 0u, 2u}) q.ready(user_event(id));
    got = q.get(4);
    REQUIRE(got.size() == 4);
    index = 0;
    for (const std::uint64_t id : {3u, 1u, 0u, 2u}) CHECK(got[index++].id.raw_u64 == id);
}

TEST_CASE("a call takes at most what it asks for", "[kevent][collect][K-057]") {
    queue q;
    add_user_events(q, 10);
    fire_user_events(q, 0, 10);

    CHECK(get(q, 1, 4, test_timeout) == 4);
    CHECK(get(q, 1, 4, test_timeout) == 4);
    CHECK(get(q, 1, 4, test_timeout) == 2);
    CHECK(get(q, 1, 4, no_wait) == 0);
    CHECK(get(q, 1, 0, test_timeout) == 0);
}

TEST_CASE("a wait returns fewer records than requested at its deadline",
          "[kevent][collect][K-058]") {
    queue q;
    add_user_events(q, 3);
    fire_user_events(q, 0, 2);

    const auto begin = now();
    CHECK(get(q, 3, 8, milliseconds(50)) == 2);
    CHECK(now() - begin >= std::chrono::milliseconds(50));
}

TEST_CASE("the last requested record ends the wait", "[kevent][collect][K-059]") {
    queue q;
    const auto peers = connected_pair::sockets();
    add_user_events(q, 2);
    fire_user_events(q, 0, 2);
    q.add(record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV));
    std::thread sender([&] { peers.send_from_peer(); });

    CHECK(get(q, 3, 8, test_timeout) == 3);

    sender.join();
}

TEST_CASE("a minimum of 0 never waits, and one above the maximum counts as the maximum",
          "[kevent][collect][K-060]") {
    queue q;
    add_user_events(q, 3);

    CHECK(get(q, 0, 8, test_timeout) == 0);
    fire_user_events(q, 0, 2);
    CHECK(get(q, 8, 2, test_timeout) == 2);
}

TEST_CASE("a non-blocking queue neither waits nor checks the timeout", "[kevent][collect][K-061]") {
    queue q(4);
    REQUIRE(::fcntl(q.number(), F_SETFL, ::fcntl(q.number(), F_GETFL) | O_NONBLOCK) == 0);

    CHECK(get(q, 1, 1, {-5, 2'000'000'000}) == 0);
    CHECK(q.wait(1, 0, {-5, 2'000'000'000}) == 0);
}

TEST_CASE("a blocking queue checks the timeout", "[kevent][collect][K-062]") {
    queue q(4);

    CHECK(get(q, 1, 1, {0, 1'000'000'000}) == -EINVAL);
    CHECK(get(q, 1, 1, {0, -1}) == -EINVAL);
    CHECK(get(q, 1, 1, {-2, 0}) == -EINVAL);
    CHECK(q.wait(1, 0, {-2, 0}) == -EINVAL);
    CHECK(get(q, 0, 1, {-2, 0}) == -EINVAL);

    add_user_events(q, 1);
    std::thread other([&] { q.ready(user_event(0)); });
    CHECK(get(q, 1, 1, forever) == 1);
    other.join();
}

TEST_CASE("a timeout of zero does not wait", "[kevent][collect][K-063]") {
    queue q(4);

    const auto begin = now();
    CHECK(get(q, 1, 1, no_wait) == 0);
    CHECK(q.wait(1, 0, no_wait) == 0);
    CHECK(now() - begin < half_of_test_timeout);
}

TEST_CASE("an absolute deadline is a point of the wall clock", "[kevent][collect][K-064]") {
    queue q;

    auto begin = now();
    CHECK(get(q, 1, 1, {1, 0}, KEVENT_FLAGS_ABSTIME) == 0);
    CHECK(get(q, 1, 1, {0, 0}, KEVENT_FLAGS_ABSTIME) == 0);
    CHECK(now() - begin < half_of_test_timeout);

    const timespec time = wall_clock_plus(50);
    CHECK(get(q, 1, 1, time, KEVENT_FLAGS_ABSTIME) == 0);
    timespec after{};
    ::clock_gettime(CLOCK_REALTIME, &after);
    CHECK((after.tv_sec > time.tv_sec ||
           (after.tv_sec == time.tv_sec && after.tv_nsec >= time.tv_nsec)));
}

TEST_CASE("each waiter has its own absolute deadline", "[kevent][many-threads][collect][K-065]") {
    queue q;
    const auto begin = now();
    const timespec late_at = wall_clock_plus(120);
    const timespec early_at = wall_clock_plus(30);
    std::chrono::steady_clock::duration late{};
    std::thread other([&] {
        get(q, 1, 1, late_at, KEVENT_FLAGS_ABSTIME);
        late = now() - begin;
    });

    CHECK(get(q, 1, 1, early_at, KEVENT_FLAGS_ABSTIME) == 0);
    const auto early = now() - begin;
    other.join();

    CHECK(early >= std::chrono::milliseconds(29));
    CHECK(late >= std::chrono::milliseconds(119));
}

TEST_CASE("an absolute wait that an event ends leaves nothing behind", "[kevent][collect][K-066]") {
    queue q;
    add_user_events(q, 1);
    fire_user_events(q, 0, 1);
    CHECK(get(q, 1, 1, wall_clock_plus(20), KEVENT_FLAGS_ABSTIME) == 1);

    const auto begin = now();
    CHECK(get(q, 1, 1, milliseconds(60)) == 0);
    CHECK(now() - begin >= std::chrono::milliseconds(60));
}

TEST_CASE("a signal handler ends a wait, without an error", "[kevent][collect][K-067]") {
    queue q;
    const int result = interrupted([&] { return get(q, 1, 1, test_timeout); });

    CHECK(result == 0);
}

TEST_CASE("a record that does not fit into the ring is marked COPY_FAILED",
          "[kevent][collect][K-069][K-070]") {
    queue q(2);
    add_user_events(q, 3);
    fire_user_events(q, 0, 3);
    std::vector<ukevent> got(3);

    REQUIRE(kevent_get_events(q.number(), 3, 3, test_timeout, got.data(), 0) == 3);

    CHECK(got[0].ret_flags == KEVENT_RET_DONE);
    CHECK(got[1].ret_flags == KEVENT_RET_DONE);
    CHECK(got[2].ret_flags == (KEVENT_RET_DONE | KEVENT_RET_COPY_FAILED));
    CHECK(q.ring_kidx() == 0);
    CHECK(q.ring().event[1].id.raw_u64 == 1);

    fire_user_events(q, 0, 1);  // a full ring does not delay it
    REQUIRE(kevent_get_events(q.number(), 1, 1, test_timeout, got.data(), 0) == 1);
    CHECK(got[0].ret_flags == (KEVENT_RET_DONE | KEVENT_RET_COPY_FAILED));
    CHECK(q.commit(0, 1) == 2);
    fire_user_events(q, 0, 1);  // the flag belonged to that one record
    REQUIRE(kevent_get_events(q.number(), 1, 1, test_timeout, got.data(), 0) == 1);
    CHECK(got[0].ret_flags == KEVENT_RET_DONE);
}

TEST_CASE("a ring takes no more at a time than it has slots", "[kevent][wait][K-071]") {
    queue q(4);

    CHECK(q.wait(5, 0) == -EINVAL);
    CHECK(q.wait(4, 0) == 0);
}

TEST_CASE("ready records go into the ring in order", "[kevent][wait][K-072]") {
    queue q(4);
    add_user_events(q, 3);
    fire_user_events(q, 0, 3);

    CHECK(q.wait(4, 0, test_timeout) == 3);

    CHECK(q.ring_kidx() == 3);
    for (std::uint32_t i = 0; i < 3; ++i) {
        CHECK(q.ring().event[i].id.raw_u64 == i);
        CHECK(is_done(q.ring().event[i]));
    }
}

TEST_CASE("records that do not fit into the ring stay ready, in order", "[kevent][wait][K-073]") {
    queue q(4);
    add_user_events(q, 6);
    fire_user_events(q, 0, 6);

    CHECK(q.wait(4, 0) == 4);
    CHECK(q.wait(4, 0) == 0);
    CHECK(q.commit(0, 1) == 4);
    CHECK(q.wait(4, 0) == 2);
    CHECK(q.ring().event[0].id.raw_u64 == 4);
    CHECK(q.ring().event[1].id.raw_u64 == 5);
}

TEST_CASE("a wait for no records takes none", "[kevent][wait][K-074]") {
    queue q(4);
    add_user_events(q, 1);
    fire_user_events(q, 0, 1);

    CHECK(q.wait(0, 0, test_timeout) == 0);
    CHECK(q.ring_kidx() == 0);
    CHECK(q.wait(1, 0) == 1);
}

TEST_CASE("a stale index ends a wait at once, a true one does not",
          "[kevent][wait][K-075][K-076]") {
    queue q(4);
    add_user_events(q, 2);
    const auto begin = now();
    CHECK(q.wait(4, 3, test_timeout) == 0);
    fire_user_events(q, 0, 2);
    CHECK(q.wait(4, 3, test_timeout) == 2);
    CHECK(now() - begin < half_of_test_timeout);
    CHECK(q.commit(2, 0) == 2);

    const auto waiting = now();
    CHECK(q.wait(4, 2, milliseconds(30)) == 0);
    CHECK(now() - waiting >= std::chrono::milliseconds(30));
}

TEST_CASE("a commit releases a waiter for space in the ring",
          "[kevent][many-threads][wait][K-077]") {
    queue q(2);
    add_user_events(q, 3);
    fire_user_events(q, 0, 3);
    REQUIRE(q.wait(2, 0) == 2);
    std::atomic<int> placed{-1};
    std::thread waiter([&] { placed = q.wait(2, 0, test_timeout); });

    CHECK(q.commit(1, 0) == 1);

    waiter.join();
    CHECK(placed == 1);
    CHECK(q.ring().event[0].id.raw_u64 == 2);
}

TEST_CASE("a commit is a position in the ring", "[kevent][commit][K-078][K-079][K-080][K-081]") {
    queue q(8);
    CHECK(q.commit(8, 0) == -EINVAL);
    CHECK(q.commit(5, 0) == -EINVAL);  // beyond the placed records
    add_user_events(q, 6);
    fire_user_events(q, 0, 6);
    REQUIRE(q.wait(8, 0) == 6);
    CHECK(q.commit(7, 0) == -EINVAL);

    SECTION("in order, and repeated") {
        CHECK(q.commit(3, 0) == 3);
        CHECK(q.commit(3, 0) == 0);
        CHECK(q.commit(6, 0) == 3);
    }
    SECTION("out of order") {
        CHECK(q.commit(6, 0) == 6);
        CHECK(q.commit(3, 0) == 0);
        CHECK(q.ring_over() == 0);
    }
}

TEST_CASE("a commit across the end of the ring names the new lap",
          "[kevent][commit][K-082][K-083][K-084]") {
    queue q(4);
    add_user_events(q, 4);
    fire_user_events(q, 0, 3);
    REQUIRE(q.wait(4, 0) == 3);
    REQUIRE(q.commit(3, 0) == 3);
    fire_user_events(q, 0, 3);
    REQUIRE(q.wait(4, 3) == 3);

    CHECK(q.commit(2, 1) == 3);
    CHECK(q.ring_over() == 1);

    fire_user_events(q, 0, 4);
    REQUIRE(q.wait(4, 2) == 4);
    CHECK(q.ring_kidx() == 2);
    CHECK(q.commit(2, 1) == 0);
    CHECK(q.commit(2, 2) == 4);
    CHECK(q.ring_over() == 2);
    CHECK(q.commit(3, 0) == -EOVERFLOW);
    CHECK(q.commit(3, 4) == -EOVERFLOW);
}

TEST_CASE("a spurious wake-up does not mask a ready registration",
          "[kevent][present-state][collect][K-063]") {
    queue q;
    const auto quiet = connected_pair::sockets();
    const auto busy = connected_pair::sockets();
    q.add(record(KEVENT_SOCKET, quiet.local(), KEVENT_SOCKET_RECV));
    q.add(record(KEVENT_SOCKET, busy.local(), KEVENT_SOCKET_RECV));
    quiet.send_from_peer();
    quiet.drain_local();
    busy.send_from_peer();

    ukevent got{};
    REQUIRE(kevent_get_events(q.number(), 1, 1, no_wait, &got, 0) == 1);
    CHECK(got.id.raw[0] == static_cast<std::uint32_t>(busy.local()));
}
