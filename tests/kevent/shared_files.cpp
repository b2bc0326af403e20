// shared_files.cpp: one of several registrations of a socket or pipe is notified; if it is removed
// before it delivers the event, the next one is notified.
#include "tests/kevent/kevent_fixture.hpp"

#include <sys/epoll.h>

using namespace kevent_test;

namespace {

ukevent receive(const connected_pair& peers, std::uint32_t second_key = 0,
                std::uint32_t req_flags = 0) {
    ukevent made = record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV, req_flags);
    made.id.raw[1] = second_key;
    return made;
}

// A queue without a releasing thread, which stays in the table after its close().
int plain_queue() {
    const int number = kevent_init(nullptr, 0, KEVENT_INIT_NO_THREAD);
    REQUIRE(number >= 0);
    return number;
}

}  // namespace

TEST_CASE("an older registration that is removed before it collects leaves its event to the next",
          "[kevent][shared_file][K-097]") {
    const bool same_queue = GENERATE(true, false);
    const bool collected_once = GENERATE(true, false);
    CAPTURE(same_queue, collected_once);
    queue first;
    queue other;
    queue& second = same_queue ? first : other;
    const auto peers = connected_pair::sockets();
    first.add(receive(peers));
    second.add(receive(peers, 1));
    if (collected_once) {
        peers.send_from_peer();
        CHECK(first.get_one().id.raw[1] == 0);
        CHECK(second.has_no_event());
        peers.drain_local();
    }

    peers.send_from_peer();
    if (!same_queue) CHECK(second.has_no_event());  // it keeps silent for the older one
    first.remove(receive(peers));

    CHECK(second.get_one().id.raw[1] == 1);
    CHECK(second.has_no_event());
}

TEST_CASE("an older one-shot that has fired and is removed leaves its event to the next",
          "[kevent][shared_file][K-089][K-097]") {
    queue first;
    queue second;
    const auto peers = connected_pair::sockets();
    first.add(receive(peers, 0, KEVENT_REQ_ONESHOT));
    second.add(receive(peers));
    peers.send_from_peer();
    REQUIRE(first.becomes_readable());
    CHECK(second.has_no_event());

    first.remove(receive(peers));

    CHECK(second.get_one().type == KEVENT_SOCKET);
}

TEST_CASE("of several that kept silent only the oldest is notified when the event is left",
          "[kevent][shared_file][K-097]") {
    queue first;
    queue second;
    queue third;
    const auto peers = connected_pair::sockets();
    first.add(receive(peers));
    second.add(receive(peers));
    third.add(receive(peers));
    peers.send_from_peer();
    CHECK(second.has_no_event());
    CHECK(third.has_no_event());

    first.remove(receive(peers));

    CHECK(second.get_one().type == KEVENT_SOCKET);
    CHECK(third.has_no_event());
    second.remove(receive(peers));
    CHECK(third.has_no_event());  // it was delivered
}

TEST_CASE("an event that the older registration has delivered is not reported to the next",
          "[kevent][shared_file][K-097]") {
    queue first;
    queue second;
    const auto peers = connected_pair::sockets();
    first.add(receive(peers));
    second.add(receive(peers));
    peers.send_from_peer();
    CHECK(second.has_no_event());
    CHECK(first.get_one().type == KEVENT_SOCKET);

    first.remove(receive(peers));

    CHECK(second.has_no_event());
}

TEST_CASE("a thread that waits is woken by an event that an older registration leaves",
          "[kevent][many-threads][shared_file][K-097]") {
    queue first;
    queue second;
    const auto peers = connected_pair::sockets();
    first.add(receive(peers));
    second.add(receive(peers));
    peers.send_from_peer();
    CHECK(second.has_no_event());
    ukevent got{};
    int result = 0;
    std::thread waiter(
        [&] { result = kevent_get_events(second.number(), 1, 1, test_timeout, &got, 0); });

    first.remove(receive(peers));
    waiter.join();

    CHECK(result == 1);
}

TEST_CASE("a closed queue that is not yet released consumes no event of another",
          "[kevent][shared_file][close][K-097]") {
    const int closed = plain_queue();
    const int living = plain_queue();
    const auto peers = connected_pair::sockets();
    ukevent one = receive(peers);
    REQUIRE(kevent_ctl(closed, KEVENT_CTL_ADD, 1, &one) == 0);
    one = receive(peers);
    REQUIRE(kevent_ctl(living, KEVENT_CTL_ADD, 1, &one) == 0);

    ::close(closed);
    peers.send_from_peer();

    ukevent got{};
    CHECK(kevent_get_events(living, 1, 1, test_timeout, &got, 0) == 1);
    ::close(living);
}

TEST_CASE("a queue that is closed before it collects leaves its event to the next",
          "[kevent][shared_file][close][K-097]") {
    queue first;
    queue second;
    const auto peers = connected_pair::sockets();
    first.add(receive(peers));
    second.add(receive(peers));
    peers.send_from_peer();
    CHECK(second.has_no_event());

    first.close();

    CHECK(second.get_one().type == KEVENT_SOCKET);
}

TEST_CASE("a closed queue without thread is released by calls on other queues",
          "[kevent][close][K-128]") {
    const int closed = plain_queue();
    const int living = plain_queue();
    auto peers = connected_pair::sockets();
    ukevent one = receive(peers);
    REQUIRE(kevent_ctl(closed, KEVENT_CTL_ADD, 1, &one) == 0);
    peers.close_local();
    const kevring::fd set(::epoll_create1(EPOLL_CLOEXEC));
    epoll_event request{};
    request.events = EPOLLIN;
    REQUIRE(::epoll_ctl(set.number(), EPOLL_CTL_ADD, closed, &request) == 0);
    peers.send_from_peer();
    REQUIRE(becomes_ready(set, request));

    ::close(closed);
    bool released = false;
    for (int calls = 0; !released && calls < 10'000; ++calls) {
        ukevent again = user_event(1);
        kevent_ctl(living, KEVENT_CTL_ADD, 1, &again);
        kevent_ctl(living, KEVENT_CTL_REMOVE, 1, &again);
        released = ::epoll_wait(set.number(), &request, 1, 0) == 0;
    }

    CHECK(released);
    CHECK(peers.peer_sees_end());
    ::close(living);
}
