// flags.cpp: the request flags, and the events of one registration.
#include "tests/kevent/kevent_fixture.hpp"

using namespace kevent_test;

TEST_CASE("a one-shot is delivered once and its key is free then", "[kevent][flags][K-088]") {
    queue q;
    const auto peers = connected_pair::sockets();
    const ukevent request =
        record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV, KEVENT_REQ_ONESHOT);
    q.add(request);
    peers.send_from_peer();
    peers.send_from_peer();

    CHECK(is_done(q.get_one()));
    CHECK(q.has_no_event());

    peers.drain_local();
    q.add(request);
    peers.send_from_peer();
    CHECK(is_done(q.get_one()));
}

TEST_CASE("a one-shot keeps its key until it is collected", "[kevent][flags][K-089]") {
    queue q;
    const ukevent request = user_event(1, KEVENT_REQ_ONESHOT);
    q.add(request);
    q.ready(request);

    ukevent again = request;
    CHECK(q.ctl(KEVENT_CTL_ADD, again) == 1);
    CHECK(error_of(again) == -EEXIST);
    q.modify(request);
    q.remove(request);
    CHECK(q.has_no_event());
}

TEST_CASE("unread data is not reported again", "[kevent][flags][K-090][K-091]") {
    const std::uint32_t flags = GENERATE(0u, unsigned{KEVENT_REQ_ET});
    queue q;
    const auto peers = connected_pair::sockets();
    q.add(record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV, flags));
    peers.send_from_peer();

    CHECK(is_done(q.get_one()));
    CHECK(q.has_no_event());
    CHECK_FALSE(q.readable());
    peers.send_from_peer();
    CHECK(is_done(q.get_one()));
    CHECK(q.has_no_event());
}

TEST_CASE("activity that leaves the test negative is silent",
          "[kevent][present-state][flags][K-092]") {
    queue q;
    const auto peers = connected_pair::sockets();
    q.add(record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV));
    peers.send_from_peer();
    CHECK(is_done(q.get_one()));
    peers.drain_local();
    CHECK(q.has_no_event());

    peers.send_from_peer();
    peers.drain_local();
    CHECK(q.has_no_event());
}

TEST_CASE("a last check drops a record whose data has been read", "[kevent][flags][K-093][K-094]") {
    queue q;
    const auto peers = connected_pair::sockets();
    q.add(record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV, KEVENT_REQ_LAST_CHECK));
    q.add(user_event(1));

    for (int round = 0; round < 3; ++round) {
        peers.send_from_peer();
        peers.drain_local();
        CHECK(q.has_no_event());

        peers.send_from_peer();
        CHECK(is_done(q.get_one()));
        peers.drain_local();
    }
}

TEST_CASE("a last check tests the records of the ready list again", "[kevent][flags][K-093]") {
    queue q;
    const auto peers = connected_pair::sockets();
    const ukevent request =
        record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV, KEVENT_REQ_LAST_CHECK);
    q.add(request);

    q.ready(request);
    CHECK(q.has_no_event());
    peers.send_from_peer();
    CHECK(is_done(q.get_one()));
}

TEST_CASE("a one-shot that fails its last check stays armed", "[kevent][flags][K-095]") {
    queue q;
    const auto peers = connected_pair::sockets();
    const ukevent request = record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV,
                                   KEVENT_REQ_ONESHOT | KEVENT_REQ_LAST_CHECK);
    q.add(request);
    q.ready(request);
    CHECK(q.has_no_event());

    peers.send_from_peer();
    CHECK(is_done(q.get_one()));
    peers.send_from_peer();
    CHECK(q.has_no_event());
}

TEST_CASE("a record of a last check shows the flag cleared", "[kevent][flags][K-096]") {
    queue q;
    const auto peers = connected_pair::sockets();
    q.add(record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV,
                 KEVENT_REQ_LAST_CHECK | KEVENT_REQ_ET));
    for (int round = 0; round < 2; ++round) {
        peers.send_from_peer();
        CHECK(q.get_one().req_flags == KEVENT_REQ_ET);
    }
}

TEST_CASE("many activities before collection are one record", "[kevent][flags][K-098]") {
    queue q;
    const auto peers = connected_pair::sockets();
    q.add(record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV));
    for (int i = 0; i < 10; ++i) peers.send_from_peer();

    q.get_one();
    CHECK(q.has_no_event());
}

TEST_CASE("a registration with an empty mask reports READY only", "[kevent][flags]") {
    queue q;
    auto peers = connected_pair::sockets();
    const ukevent request = record(KEVENT_SOCKET, peers.local(), KEVENT_MASK_EMPTY);
    q.add(request);
    peers.send_from_peer();
    peers.close_peer();
    CHECK(q.has_no_event());

    CHECK(q.ready(request) == 1);
    CHECK(is_done(q.get_one()));
}
