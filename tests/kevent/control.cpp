// control.cpp: REMOVE, MODIFY and READY.
#include "tests/kevent/kevent_fixture.hpp"

#include <atomic>
#include <thread>

using namespace kevent_test;

TEST_CASE("REMOVE answers each record in its place", "[kevent][remove][K-036][K-040]") {
    queue q;
    q.add(user_event(1));
    q.add(user_event(2));
    std::vector<ukevent> records{user_event(9), user_event(2)};
    records[1].user[0] = 77;  // is not part of the key

    CHECK(q.ctl(KEVENT_CTL_REMOVE, records) == 0);
    CHECK(is_broken(records[0]));
    CHECK(records[0].id.raw_u64 == 9);
    CHECK(is_done(records[1]));
    CHECK(q.ready(user_event(1)) == 1);
}

TEST_CASE("REMOVE, MODIFY and READY of more records than registrations do nothing",
          "[kevent][remove][K-037][K-050]") {
    queue q;
    q.add(user_event(1));
    std::vector<ukevent> two{user_event(1), user_event(2)};

    CHECK(q.ctl(KEVENT_CTL_REMOVE, two) == -EINVAL);
    CHECK(q.ctl(KEVENT_CTL_MODIFY, two) == -EINVAL);
    CHECK(q.ctl(KEVENT_CTL_READY, two) == -EINVAL);
    CHECK(q.has_no_event());
    q.remove(user_event(1));
}

TEST_CASE("a registration that is removed while ready is never delivered",
          "[kevent][remove][K-038]") {
    queue q(4);
    const auto peers = connected_pair::sockets();
    const ukevent request = record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV);
    q.add(request);
    q.add(user_event(1));
    peers.send_from_peer();
    CHECK(q.ready(user_event(1)) == 1);

    q.remove(request);
    q.remove(user_event(1));

    CHECK(q.wait(4, 0) == 0);
    CHECK(q.ring_kidx() == 0);
    CHECK_FALSE(q.readable());
}

TEST_CASE("REMOVE does not take back what is in the ring", "[kevent][remove][K-039]") {
    queue q(4);
    q.add(user_event(5));
    q.ready(user_event(5));
    REQUIRE(q.wait(4, 0) == 1);

    q.remove(user_event(5));

    CHECK(q.ring_kidx() == 1);
    CHECK(q.ring().event[0].id.raw_u64 == 5);
}

TEST_CASE("MODIFY answers each record in its place", "[kevent][modify][K-041]") {
    queue q;
    q.add(user_event(1));
    q.add(user_event(2));
    std::vector<ukevent> records{user_event(9), user_event(2)};

    CHECK(q.ctl(KEVENT_CTL_MODIFY, records) == 0);
    CHECK(is_broken(records[0]));
    CHECK(is_done(records[1]));
}

TEST_CASE("MODIFY tests by the new mask at once", "[kevent][modify][K-042]") {
    queue q;
    const auto peers = connected_pair::sockets();
    ukevent request = record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV);
    q.add(request);
    REQUIRE(q.has_no_event());

    request.event = KEVENT_SOCKET_SEND;
    CHECK(is_done(q.modify(request)));

    CHECK(q.get_one().ret_data[0] == KEVENT_SOCKET_SEND);
}

TEST_CASE("MODIFY reports unread data again", "[kevent][modify][K-043]") {
    queue q;
    const auto peers = connected_pair::sockets();
    const ukevent request = record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV);
    q.add(request);
    peers.send_from_peer();
    q.get_one();
    REQUIRE(q.has_no_event());

    for (int round = 0; round < 3; ++round) {
        q.modify(request);
        CHECK(is_done(q.get_one()));
        CHECK(q.has_no_event());
    }
    peers.drain_local();
    q.modify(request);
    CHECK(q.has_no_event());
}

TEST_CASE("a MODIFY that is refused does not report unread data again", "[kevent][modify][K-043]") {
    queue q;
    const auto pipe = connected_pair::pipe();
    const ukevent request = record(KEVENT_PIPE, pipe.local(), KEVENT_SOCKET_RECV);
    q.add(request);
    pipe.send_from_peer();
    q.get_one();

    std::vector<ukevent> records{request, request};
    CHECK(q.ctl(KEVENT_CTL_MODIFY, records) == -EINVAL);

    CHECK(q.has_no_event());
    q.modify(request);
    CHECK(is_done(q.get_one()));
}

TEST_CASE("MODIFY of many records reports each ready registration once",
          "[kevent][modify][K-042][K-043]") {
    constexpr std::size_t count = 6;
    queue q;
    std::vector<connected_pair> peers;
    std::vector<ukevent> requests;
    for (std::size_t i = 0; i < count; ++i) {
        peers.push_back(i % 2 == 0 ? connected_pair::sockets() : connected_pair::pipe());
        requests.push_back(
            record(i % 2 == 0 ? KEVENT_SOCKET : KEVENT_PIPE, peers[i].local(), KEVENT_SOCKET_RECV));
        q.add(requests[i]);
    }
    peers[1].send_from_peer();
    peers[4].send_from_peer();
    CHECK(q.get(2).size() == 2);
    peers[4].send_from_peer();  // an edge that the queue has not yet collected

    auto answers = requests;
    CHECK(q.ctl(KEVENT_CTL_MODIFY, answers) == 0);

    for (const ukevent& answer : answers) CHECK(is_done(answer));
    const auto got = q.get(2);
    REQUIRE(got.size() == 2);
    CHECK(got[0].id.raw[0] + got[1].id.raw[0] ==
          static_cast<std::uint32_t>(peers[1].local() + peers[4].local()));
    CHECK(q.has_no_event());

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
    // The first of the two found bytes; a ready registration stays ready.
    const auto both = q.get(2);
    REQUIRE(both.size() == 2);
    CHECK(both[0].id.raw[0] + both[1].id.raw[0] ==
          static_cast<std::uint32_t>(peers[0].local() + peers[4].local()));
    peers[2].send_from_peer();
    CHECK(q.get_one().id.raw[0] == static_cast<std::uint32_t>(peers[2].local()));
    CHECK(q.has_no_event());
}

TEST_CASE("MODIFY leaves the user field as it was", "[kevent][modify][K-044]") {
    queue q;
    ukevent request = user_event(1);
    request.user[0] = 11;
    q.add(request);

    request.user[0] = 22;
    q.modify(request);

    CHECK(q.get_one().user[0] == 11);
}

TEST_CASE("a ready registration stays ready under a mask that is not satisfied",
          "[kevent][modify][K-045]") {
    queue q;
    const auto peers = connected_pair::sockets();
    ukevent request = record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_SEND | KEVENT_SOCKET_RECV,
                             KEVENT_REQ_ALWAYS_QUEUE);

    SECTION("the queue has not tested it yet") { q.add(request); }
    SECTION("it waits in the ready list") {
        q.add(request);
        q.add(user_event(1));
        q.ready(user_event(1));
        CHECK(q.get(1, 1).size() == 1);
    }

    request.event = KEVENT_SOCKET_RECV;
    q.modify(request);

    CHECK(is_done(q.get().at(0)));
    CHECK(q.has_no_event());
}

TEST_CASE("MODIFY of a timer fires it at once", "[kevent][modify][timer]") {
    queue q;
    ukevent request = record(KEVENT_TIMER, 3600, KEVENT_TIMER_FIRED);
    q.add(request);
    REQUIRE(q.has_no_event());

    q.modify(request);

    CHECK(is_done(q.get_one()));
    CHECK(q.has_no_event());
}

TEST_CASE("READY fires a user event", "[kevent][ready][K-047]") {
    queue q;
    ukevent request = user_event(1);
    request.user[1] = 33;
    q.add(request);
    REQUIRE(q.has_no_event());

    CHECK(q.ready(user_event(1)) == 1);

    const ukevent got = q.get_one();
    CHECK(is_done(got));
    CHECK(got.user[1] == 33);
}

TEST_CASE("READY twice before collection is one event", "[kevent][ready][K-048]") {
    queue q;
    q.add(user_event(1));

    CHECK(q.ready(user_event(1)) == 1);
    CHECK(q.ready(user_event(1)) == 1);

    q.get_one();
    CHECK(q.has_no_event());
}

TEST_CASE("READY returns the records that it does not find", "[kevent][ready][K-049]") {
    queue q;
    q.add(user_event(1));
    q.add(user_event(2));
    std::vector<ukevent> records{user_event(9), user_event(1)};

    CHECK(q.ctl(KEVENT_CTL_READY, records) == 1);
    CHECK(records[0].id.raw_u64 == 9);
    CHECK(is_broken(records[0]));
    CHECK(q.get_one().id.raw_u64 == 1);
}

TEST_CASE("READY works for any type", "[kevent][ready][K-051]") {
    queue q;
    const auto peers = connected_pair::sockets();
    const ukevent request = record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV);
    q.add(request);

    CHECK(q.ready(request) == 1);

    CHECK(is_done(q.get_one()));
    CHECK(q.has_no_event());
    peers.send_from_peer();
    CHECK(is_done(q.get_one()));
}

TEST_CASE("READY without records releases a waiter", "[kevent][ready][K-052]") {
    queue q;
    std::atomic<int> result{-1};
    std::thread waiter([&] {
        ukevent got{};
        result = kevent_get_events(q.number(), 1, 1, test_timeout, &got, 0);
    });

    CHECK(q.release() == 0);  // before it waits, or while it does

    waiter.join();
    CHECK(result == 0);
}

TEST_CASE("READY without records and without a waiter releases exactly the next wait",
          "[kevent][ready][K-053][K-054]") {
    queue q;
    ukevent got{};
    for (int i = 0; i < 3; ++i) CHECK(q.release() == 0);
    CHECK(q.becomes_readable());

    auto begin = now();
    CHECK(kevent_get_events(q.number(), 1, 1, test_timeout, &got, 0) == 0);
    CHECK(now() - begin < half_of_test_timeout);
    CHECK_FALSE(q.readable());

    begin = now();
    CHECK(kevent_get_events(q.number(), 1, 1, milliseconds(30), &got, 0) == 0);
    CHECK(now() - begin >= std::chrono::milliseconds(30));
}

TEST_CASE("a wait that is released takes what is ready", "[kevent][ready][K-055]") {
    queue q;
    q.add(user_event(1));
    q.add(user_event(2));
    q.ready(user_event(1));
    q.ready(user_event(2));
    q.release();
    std::vector<ukevent> got(8);

    CHECK(kevent_get_events(q.number(), 5, 8, test_timeout, got.data(), 0) == 2);
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
    const auto peers = connected_pair::sockets();
    ukevent request = record(KEVENT_POLL, peers.local(), KEVENT_POLL_POLLPRI, KEVENT_REQ_READY);
    q.add(request);
    request.event = KEVENT_POLL_POLLIN;
    request.req_flags = KEVENT_REQ_ONESHOT;
    q.modify(request);
    CHECK(q.has_no_event());  // POLL is always checked last

    peers.send_from_peer();
    CHECK(q.get_one().ret_data[0] == KEVENT_POLL_POLLIN);
}

TEST_CASE("with an empty mask, too, a registration holds its file", "[kevent][control][K-102]") {
    queue q;
    auto peers = connected_pair::sockets();
    ukevent request = record(KEVENT_SOCKET, peers.local(), KEVENT_MASK_EMPTY);
    q.add(request);
    peers.send_from_peer();
    peers.close_local();

    request.event = KEVENT_SOCKET_RECV;
    q.modify(request);
    CHECK(is_done(q.get_one()));
}

TEST_CASE("a record that fails its last check does not hide the records after it",
          "[kevent][control][K-093]") {
    queue q(2);
    const bool by_ring = GENERATE(false, true);
    const auto quiet = connected_pair::sockets();
    const auto busy = connected_pair::sockets();
    const ukevent checked =
        record(KEVENT_SOCKET, quiet.local(), KEVENT_SOCKET_RECV, KEVENT_REQ_LAST_CHECK);
    q.add(checked);
    q.add(record(KEVENT_SOCKET, busy.local(), KEVENT_SOCKET_RECV));
    q.ready(checked);
    busy.send_from_peer();

    ukevent got{};
    CHECK((by_ring ? q.wait(1, 0) : kevent_get_events(q.number(), 1, 1, no_wait, &got, 0)) == 1);
}

TEST_CASE("a record that is listed twice in a MODIFY is modified twice", "[kevent][control]") {
    queue q;
    const auto first = connected_pair::sockets();
    const auto second = connected_pair::sockets();
    ukevent one = record(KEVENT_SOCKET, first.local(), KEVENT_SOCKET_RECV);
    q.add(one);
    ukevent other = record(KEVENT_SOCKET, second.local(), KEVENT_MASK_EMPTY);
    q.add(other);
    q.add(user_event(1));
    q.add(user_event(2));
    first.send_from_peer();
    CHECK(q.get_one().id.raw[0] == one.id.raw[0]);

    SECTION("a registration that the first mask made ready stays ready under the second") {
        ukevent silent = one;
        silent.event = KEVENT_MASK_EMPTY;
        std::vector<ukevent> records{one, one, one, silent};
        REQUIRE(q.ctl(KEVENT_CTL_MODIFY, records) == 0);
        CHECK(q.get_one().id.raw[0] == one.id.raw[0]);
    }
    SECTION("the empty mask of the first record does not hide the second record") {
        ukevent silent = one;
        silent.event = KEVENT_MASK_EMPTY;
        other.event = KEVENT_SOCKET_RECV;
        std::vector<ukevent> records{one, silent, other, one};
        REQUIRE(q.ctl(KEVENT_CTL_MODIFY, records) == 0);
        CHECK(q.get_one().id.raw[0] == one.id.raw[0]);
        second.send_from_peer();
        CHECK(q.get_one().id.raw[0] == other.id.raw[0]);
    }
    CHECK(q.has_no_event());
    CHECK_FALSE(q.readable());
}
