// control.cpp: REMOVE, MODIFY and READY.
#include "tests/kevent/queue_door.hpp"

#include <atomic>
#include <thread>

using namespace kevent_test;

TEST_CASE("REMOVE answers each record in its place", "[kevent][remove][K-036][K-040]") {
    queue q;
    q.add(note(1));
    q.add(note(2));
    std::vector<ukevent> records{note(9), note(2)};
    records[1].user[0] = 77;  // is not part of the key

    CHECK(q.ctl(KEVENT_CTL_REMOVE, records) == 0);
    CHECK(is_broken(records[0]));
    CHECK(records[0].id.raw_u64 == 9);
    CHECK(is_done(records[1]));
    CHECK(q.ready(note(1)) == 1);
}

TEST_CASE("REMOVE, MODIFY and READY of more than there are do nothing",
          "[kevent][remove][K-037][K-050]") {
    queue q;
    q.add(note(1));
    std::vector<ukevent> two{note(1), note(2)};

    CHECK(q.ctl(KEVENT_CTL_REMOVE, two) == -EINVAL);
    CHECK(q.ctl(KEVENT_CTL_MODIFY, two) == -EINVAL);
    CHECK(q.ctl(KEVENT_CTL_READY, two) == -EINVAL);
    CHECK(q.silent());
    q.remove(note(1));
}

TEST_CASE("what is removed while ready is never delivered", "[kevent][remove][K-038]") {
    queue q(4);
    const auto peers = ends::sockets();
    const ukevent request = record(KEVENT_SOCKET, peers.near(), KEVENT_SOCKET_RECV);
    q.add(request);
    q.add(note(1));
    peers.far_sends();
    CHECK(q.ready(note(1)) == 1);

    q.remove(request);
    q.remove(note(1));

    CHECK(q.wait(4, 0) == 0);
    CHECK(q.ring_kidx() == 0);
    CHECK_FALSE(q.readable());
}

TEST_CASE("REMOVE does not take back what is in the ring", "[kevent][remove][K-039]") {
    queue q(4);
    q.add(note(5));
    q.ready(note(5));
    REQUIRE(q.wait(4, 0) == 1);

    q.remove(note(5));

    CHECK(q.ring_kidx() == 1);
    CHECK(q.ring().event[0].id.raw_u64 == 5);
}

TEST_CASE("MODIFY answers each record in its place", "[kevent][modify][K-041]") {
    queue q;
    q.add(note(1));
    q.add(note(2));
    std::vector<ukevent> records{note(9), note(2)};

    CHECK(q.ctl(KEVENT_CTL_MODIFY, records) == 0);
    CHECK(is_broken(records[0]));
    CHECK(is_done(records[1]));
}

TEST_CASE("MODIFY tests by the new mask at once", "[kevent][modify][K-042]") {
    queue q;
    const auto peers = ends::sockets();
    ukevent request = record(KEVENT_SOCKET, peers.near(), KEVENT_SOCKET_RECV);
    q.add(request);
    REQUIRE(q.silent());

    request.event = KEVENT_SOCKET_SEND;
    CHECK(is_done(q.modify(request)));

    CHECK(q.get_one().ret_data[0] == KEVENT_SOCKET_SEND);
}

TEST_CASE("MODIFY is the way to hear again of what was not read", "[kevent][modify][K-043]") {
    queue q;
    const auto peers = ends::sockets();
    const ukevent request = record(KEVENT_SOCKET, peers.near(), KEVENT_SOCKET_RECV);
    q.add(request);
    peers.far_sends();
    q.get_one();
    REQUIRE(q.silent());

    for (int round = 0; round < 3; ++round) {
        q.modify(request);
        CHECK(is_done(q.get_one()));
        CHECK(q.silent());
    }
    peers.drain_near();
    q.modify(request);
    CHECK(q.silent());
}

TEST_CASE("MODIFY of many tells of those that are ready, and once of each",
          "[kevent][modify][K-042][K-043]") {
    constexpr std::size_t count = 6;
    queue q;
    std::vector<ends> peers;
    std::vector<ukevent> requests;
    for (std::size_t i = 0; i < count; ++i) {
        peers.push_back(i % 2 == 0 ? ends::sockets() : ends::pipe());
        requests.push_back(
            record(i % 2 == 0 ? KEVENT_SOCKET : KEVENT_PIPE, peers[i].near(), KEVENT_SOCKET_RECV));
        q.add(requests[i]);
    }
    peers[1].far_sends();
    peers[4].far_sends();
    CHECK(q.get(2).size() == 2);
    peers[4].far_sends();  // an edge that nobody has seen yet

    auto answers = requests;
    CHECK(q.ctl(KEVENT_CTL_MODIFY, answers) == 0);

    for (const ukevent& answer : answers) CHECK(is_done(answer));
    const auto got = q.get(2);
    REQUIRE(got.size() == 2);
    CHECK(got[0].id.raw[0] + got[1].id.raw[0] ==
          static_cast<std::uint32_t>(peers[1].near() + peers[4].near()));
    CHECK(q.silent());

    // Other masks in the same batch, one of them twice.
    requests[0].event = KEVENT_SOCKET_RECV | KEVENT_SOCKET_SEND;
    requests[1].event = KEVENT_MASK_EMPTY;
    requests.push_back(requests[4]);
    requests.back().event = KEVENT_MASK_EMPTY;
    CHECK(q.ctl(KEVENT_CTL_REMOVE, requests[5]) == 0);
    requests.erase(requests.begin() + 5);
    CHECK(q.ctl(KEVENT_CTL_MODIFY, requests) == -EINVAL);  // six records, five registrations
    requests.erase(requests.begin() + 3);
    CHECK(q.ctl(KEVENT_CTL_MODIFY, requests) == 0);
    // The first of the two found bytes, and what is ready stays so.
    const auto both = q.get(2);
    REQUIRE(both.size() == 2);
    CHECK(both[0].id.raw[0] + both[1].id.raw[0] ==
          static_cast<std::uint32_t>(peers[0].near() + peers[4].near()));
    peers[2].far_sends();
    CHECK(q.get_one().id.raw[0] == static_cast<std::uint32_t>(peers[2].near()));
    CHECK(q.silent());
}

TEST_CASE("MODIFY leaves the user field as it was", "[kevent][modify][K-044]") {
    queue q;
    ukevent request = note(1);
    request.user[0] = 11;
    q.add(request);

    request.user[0] = 22;
    q.modify(request);

    CHECK(q.get_one().user[0] == 11);
}

TEST_CASE("what is ready stays ready under a mask that is not satisfied",
          "[kevent][modify][K-045]") {
    queue q;
    const auto peers = ends::sockets();
    ukevent request = record(KEVENT_SOCKET, peers.near(), KEVENT_SOCKET_SEND | KEVENT_SOCKET_RECV,
                             KEVENT_REQ_ALWAYS_QUEUE);

    SECTION("the queue has not looked at it yet") { q.add(request); }
    SECTION("it waits in the ready list") {
        q.add(request);
        q.add(note(1));
        q.ready(note(1));
        CHECK(q.get(1, 1).size() == 1);
    }

    request.event = KEVENT_SOCKET_RECV;
    q.modify(request);

    CHECK(is_done(q.get().at(0)));
    CHECK(q.silent());
}

TEST_CASE("MODIFY of a timer fires it at once", "[kevent][modify][timer]") {
    queue q;
    ukevent request = record(KEVENT_TIMER, 3600, KEVENT_TIMER_FIRED);
    q.add(request);
    REQUIRE(q.silent());

    q.modify(request);

    CHECK(is_done(q.get_one()));
    CHECK(q.silent());
}

TEST_CASE("READY fires a note", "[kevent][ready][K-047]") {
    queue q;
    ukevent request = note(1);
    request.user[1] = 33;
    q.add(request);
    REQUIRE(q.silent());

    CHECK(q.ready(note(1)) == 1);

    const ukevent got = q.get_one();
    CHECK(is_done(got));
    CHECK(got.user[1] == 33);
}

TEST_CASE("READY twice before collection is one event", "[kevent][ready][K-048]") {
    queue q;
    q.add(note(1));

    CHECK(q.ready(note(1)) == 1);
    CHECK(q.ready(note(1)) == 1);

    q.get_one();
    CHECK(q.silent());
}

TEST_CASE("READY hands back what it does not know", "[kevent][ready][K-049]") {
    queue q;
    q.add(note(1));
    q.add(note(2));
    std::vector<ukevent> records{note(9), note(1)};

    CHECK(q.ctl(KEVENT_CTL_READY, records) == 1);
    CHECK(records[0].id.raw_u64 == 9);
    CHECK(is_broken(records[0]));
    CHECK(q.get_one().id.raw_u64 == 1);
}

TEST_CASE("READY works for any type", "[kevent][ready][K-051]") {
    queue q;
    const auto peers = ends::sockets();
    const ukevent request = record(KEVENT_SOCKET, peers.near(), KEVENT_SOCKET_RECV);
    q.add(request);

    CHECK(q.ready(request) == 1);

    CHECK(is_done(q.get_one()));
    CHECK(q.silent());
    peers.far_sends();
    CHECK(is_done(q.get_one()));
}

TEST_CASE("READY of nothing releases a waiter", "[kevent][ready][K-052]") {
    queue q;
    std::atomic<int> result{-1};
    std::thread waiter([&] {
        ukevent got{};
        result = kevent_get_events(q.number(), 1, 1, long_time, &got, 0);
    });

    CHECK(q.release() == 0);  // before it waits, or while it does

    waiter.join();
    CHECK(result == 0);
}

TEST_CASE("READY of nothing with nobody waiting releases the next wait, and one only",
          "[kevent][ready][K-053][K-054]") {
    queue q;
    ukevent got{};
    for (int i = 0; i < 3; ++i) CHECK(q.release() == 0);
    CHECK(q.readable());

    auto begin = now();
    CHECK(kevent_get_events(q.number(), 1, 1, long_time, &got, 0) == 0);
    CHECK(now() - begin < half_of_long_time);
    CHECK_FALSE(q.readable());

    begin = now();
    CHECK(kevent_get_events(q.number(), 1, 1, milliseconds(30), &got, 0) == 0);
    CHECK(now() - begin >= std::chrono::milliseconds(30));
}

TEST_CASE("a wait that is released takes what is ready", "[kevent][ready][K-055]") {
    queue q;
    q.add(note(1));
    q.add(note(2));
    q.ready(note(1));
    q.ready(note(2));
    q.release();
    std::vector<ukevent> got(8);

    CHECK(kevent_get_events(q.number(), 5, 8, long_time, got.data(), 0) == 2);
}

TEST_CASE("a timer whose mask becomes empty fires no more", "[kevent][control][timer]") {
    queue q;
    ukevent timer = record(KEVENT_TIMER, 0, KEVENT_TIMER_FIRED);
    timer.id.raw[1] = 1'000'000;
    q.add(timer);
    timer.event = KEVENT_MASK_EMPTY;
    q.modify(timer);
    CHECK(is_done(q.get_one()));  // MODIFY itself fires it

    ukevent got{};
    CHECK(kevent_get_events(q.number(), 1, 1, milliseconds(20), &got, 0) == 0);
}

TEST_CASE("a ready registration that becomes one-shot is armed by its new mask, should it fail",
          "[kevent][control]") {
    queue q;
    const auto peers = ends::sockets();
    ukevent request = record(KEVENT_POLL, peers.near(), KEVENT_POLL_POLLPRI, KEVENT_REQ_READY);
    q.add(request);
    request.event = KEVENT_POLL_POLLIN;
    request.req_flags = KEVENT_REQ_ONESHOT;
    q.modify(request);
    CHECK(q.silent());  // POLL is always checked last

    peers.far_sends();
    CHECK(q.get_one().ret_data[0] == KEVENT_POLL_POLLIN);
}

TEST_CASE("with an empty mask, too, a registration holds its file", "[kevent][control][K-102]") {
    queue q;
    auto peers = ends::sockets();
    ukevent request = record(KEVENT_SOCKET, peers.near(), KEVENT_MASK_EMPTY);
    q.add(request);
    peers.far_sends();
    peers.close_near();

    request.event = KEVENT_SOCKET_RECV;
    q.modify(request);
    CHECK(is_done(q.get_one()));
}

TEST_CASE("a record that fails its last check does not hide what is behind it",
          "[kevent][control][K-093]") {
    queue q(2);
    const bool by_ring = GENERATE(false, true);
    const auto quiet = ends::sockets();
    const auto busy = ends::sockets();
    const ukevent checked =
        record(KEVENT_SOCKET, quiet.near(), KEVENT_SOCKET_RECV, KEVENT_REQ_LAST_CHECK);
    q.add(checked);
    q.add(record(KEVENT_SOCKET, busy.near(), KEVENT_SOCKET_RECV));
    q.ready(checked);
    busy.far_sends();

    ukevent got{};
    CHECK((by_ring ? q.wait(1, 0) : kevent_get_events(q.number(), 1, 1, no_time, &got, 0)) == 1);
}

TEST_CASE("one that stands twice in a MODIFY is modified twice", "[kevent][control]") {
    queue q;
    const auto first = ends::sockets();
    const auto second = ends::sockets();
    ukevent one = record(KEVENT_SOCKET, first.near(), KEVENT_SOCKET_RECV);
    q.add(one);
    ukevent other = record(KEVENT_SOCKET, second.near(), KEVENT_MASK_EMPTY);
    q.add(other);
    q.add(note(1));
    q.add(note(2));
    first.far_sends();
    CHECK(q.get_one().id.raw[0] == one.id.raw[0]);

    SECTION("what is ready by the first mask stays so by the second") {
        ukevent silent = one;
        silent.event = KEVENT_MASK_EMPTY;
        std::vector<ukevent> records{one, one, one, silent};
        REQUIRE(q.ctl(KEVENT_CTL_MODIFY, records) == 0);
        CHECK(q.get_one().id.raw[0] == one.id.raw[0]);
    }
    SECTION("and is not taken for one that is watched from then on") {
        ukevent silent = one;
        silent.event = KEVENT_MASK_EMPTY;
        other.event = KEVENT_SOCKET_RECV;
        std::vector<ukevent> records{one, silent, other, one};
        REQUIRE(q.ctl(KEVENT_CTL_MODIFY, records) == 0);
        CHECK(q.get_one().id.raw[0] == one.id.raw[0]);
        second.far_sends();
        CHECK(q.get_one().id.raw[0] == other.id.raw[0]);
    }
    CHECK(q.silent());
    CHECK_FALSE(q.readable());
}
