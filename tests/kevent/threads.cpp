// threads.cpp: the control descriptor, several threads on one queue, and its end.
#include "tests/kevent/kevent_fixture.hpp"

#include <atomic>
#include <memory>
#include <thread>

#include <pthread.h>
#include <sys/epoll.h>

using namespace kevent_test;

TEST_CASE("the control descriptor is readable while something is ready",
          "[kevent][control][K-122]") {
    queue q;
    const auto peers = connected_pair::sockets();
    q.add(user_event(1));
    q.add(user_event(2));
    q.add(record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV));
    CHECK_FALSE(q.readable());

    q.ready(user_event(1));
    q.ready(user_event(2));
    CHECK(q.becomes_readable());
    q.get(1, 1);
    CHECK(q.becomes_readable());
    q.get(1, 1);
    CHECK_FALSE(q.readable());

    peers.send_from_peer();
    CHECK(q.becomes_readable());
    q.get_one();
    CHECK_FALSE(q.stays_readable());

    q.release();
    CHECK(q.becomes_readable());
    CHECK(q.has_no_event());
    CHECK_FALSE(q.readable());
}

TEST_CASE("epoll and another queue can watch a queue", "[kevent][control][K-123]") {
    queue inner;
    queue outer;
    const auto peers = connected_pair::sockets();
    inner.add(record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV));
    outer.add(record(KEVENT_POLL, inner.number(), KEVENT_POLL_POLLIN));
    const kevring::fd set(::epoll_create1(EPOLL_CLOEXEC));
    epoll_event watch{};
    watch.events = EPOLLIN;
    REQUIRE(::epoll_ctl(set.number(), EPOLL_CTL_ADD, inner.number(), &watch) == 0);
    CHECK(::epoll_wait(set.number(), &watch, 1, 0) == 0);

    peers.send_from_peer();

    CHECK(becomes_ready(set, watch));
    CHECK(outer.get_one().id.raw[0] == static_cast<std::uint32_t>(inner.number()));
    inner.get_one();
    CHECK_FALSE(inner.stays_readable());
    CHECK(::epoll_wait(set.number(), &watch, 1, 0) == 0);
}

TEST_CASE("one event ends one wait of eight; eight events end the others",
          "[kevent][many-threads][threads][K-124]") {
    const bool by_user_event = GENERATE(true, false);
    queue q;
    const auto peers = connected_pair::sockets();
    for (std::uint64_t id = 0; id < 8; ++id) q.add(user_event(id));
    q.add(record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV));
    std::atomic<int> returned{0};
    std::atomic<int> records{0};
    std::vector<std::thread> waiters;
    for (int i = 0; i < 8; ++i)
        waiters.emplace_back([&] {
            ukevent got{};
            records += kevent_get_events(q.number(), 1, 1, test_timeout, &got, 0);
            ++returned;
        });

    if (by_user_event) {
        q.ready(user_event(0));
    } else {
        peers.send_from_peer();
    }
    const auto begin = now();
    while (returned == 0 && now() - begin < half_of_test_timeout) std::this_thread::yield();
    for (int i = 0; i < 1000; ++i) std::this_thread::yield();
    CHECK(returned == 1);
    CHECK(records == 1);

    for (std::uint64_t id = 1; id < 8; ++id) q.ready(user_event(id));
    for (auto& waiter : waiters) waiter.join();
    CHECK(records == 8);
    CHECK(q.has_no_event());
}

TEST_CASE("a waiter that cannot take all that is ready wakes the next",
          "[kevent][many-threads][threads][K-125]") {
    queue q;
    q.add(user_event(1));
    q.add(user_event(2));
    std::atomic<int> records{0};
    const auto take_one = [&] {
        ukevent got{};
        records += kevent_get_events(q.number(), 1, 1, test_timeout, &got, 0);
    };
    std::thread first(take_one);
    std::thread second(take_one);

    std::vector<ukevent> both{user_event(1), user_event(2)};
    CHECK(q.ctl(KEVENT_CTL_READY, both) == 2);

    first.join();
    second.join();
    CHECK(records == 2);
}

TEST_CASE("a waiter for many records leaves the first record to a waiter for one",
          "[kevent][many-threads][threads]") {
    queue q;
    for (std::uint64_t id = 0; id < 6; ++id) q.add(user_event(id));
    std::atomic<int> many{0};
    std::atomic<int> one{0};
    std::thread for_many([&] {
        std::vector<ukevent> got(8);
        many = kevent_get_events(q.number(), 5, 8, test_timeout, got.data(), 0);
    });
    std::thread for_one([&] {
        ukevent got{};
        one = kevent_get_events(q.number(), 1, 1, test_timeout, &got, 0);
    });

    q.ready(user_event(0));
    for_one.join();
    CHECK(one == 1);
    for (std::uint64_t id = 1; id < 6; ++id) q.ready(user_event(id));
    for_many.join();
    CHECK(many == 5);
}

TEST_CASE("no event is delivered to two threads", "[kevent][many-threads][threads][K-126]") {
    constexpr std::uint64_t note_count = 64;
    constexpr int rounds = 200;
    queue q;
    std::array<std::atomic<int>, note_count> delivered{};
    std::array<std::atomic<int>, note_count> fired{};
    for (std::uint64_t id = 0; id < note_count; ++id) q.add(user_event(id));
    std::atomic<bool> stop{false};
    std::vector<std::thread> takers;
    for (int i = 0; i < 3; ++i)
        takers.emplace_back([&] {
            std::array<ukevent, 8> got;
            while (!stop) {
                const int count =
                    kevent_get_events(q.number(), 1, 8, milliseconds(50), got.data(), 0);
                for (int k = 0; k < count; ++k)
                    ++delivered[got[static_cast<std::size_t>(k)].id.raw_u64];
            }
        });

    // Each is fired again only after its delivery, so that none coalesces.
    const auto end = now() + std::chrono::seconds(200);
    for (int round = 1; round <= rounds; ++round) {
        for (std::uint64_t id = 0; id < note_count; ++id) {
            while (delivered[id] < fired[id] && now() < end) std::this_thread::yield();
            ++fired[id];
            q.ready(user_event(id));
        }
    }
    const auto all = [&] {
        for (std::uint64_t id = 0; id < note_count; ++id)
            if (delivered[id] < rounds) return false;
        return true;
    };
    while (!all() && now() < end) std::this_thread::yield();
    stop = true;
    for (auto& taker : takers) taker.join();

    for (std::uint64_t id = 0; id < note_count; ++id) CHECK(delivered[id] == rounds);
}

TEST_CASE("a registration survives the thread that added it", "[kevent][threads]") {
    queue q;
    const auto peers = connected_pair::sockets();
    std::thread([&] {
        q.add(record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV));
        CHECK(q.has_no_event());
    }).join();

    peers.send_from_peer();

    CHECK(is_done(q.get_one()));
}

TEST_CASE("a thread that is cancelled while it waits loses nothing",
          "[kevent][many-threads][threads][K-127]") {
    const bool into_ring = GENERATE(true, false);
    for (int round = 0; round < 50; ++round) {
        queue q(4);
        const auto peers = connected_pair::sockets();
        q.add(record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV));
        std::atomic<int> collected{0};
        std::thread waiter([&] {
            ukevent got{};
            const int count = into_ring
                                  ? q.wait(4, 0, test_timeout)
                                  : kevent_get_events(q.number(), 1, 1, test_timeout, &got, 0);
            collected = count;
        });

        if (round % 3 == 0) std::this_thread::yield();
        if (round % 2 == 0) {
            peers.send_from_peer();
            ::pthread_cancel(waiter.native_handle());
        } else {
            ::pthread_cancel(waiter.native_handle());
            peers.send_from_peer();
        }
        waiter.join();

        // Returned to the caller, in the ring, or still ready.
        const int left = q.wait(4, 0, no_wait);
        CHECK(static_cast<int>(q.ring_kidx()) >= left);
        CHECK(static_cast<int>(q.ring_kidx()) == 1);
        CHECK((collected == 0 || collected == 1));
    }
}

TEST_CASE("closing a queue releases what it watched", "[kevent][close][K-128]") {
    auto q = std::make_unique<queue>();
    auto peers = connected_pair::sockets();
    q->add(record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV));
    peers.close_local();
    CHECK_FALSE(peers.peer_sees_end(10));

    q->close();

    CHECK(peers.peer_sees_end());
}

TEST_CASE("a queue that is closed while threads wait serves them until they return",
          "[kevent][many-threads][close]") {
    queue q;
    const int number = q.number();
    auto peers = connected_pair::sockets();
    q.add(record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV));
    std::atomic<bool> waits{false};
    std::atomic<int> result{-1};
    std::thread waiter([&] {
        waits = true;
        ukevent got{};
        result = kevent_get_events(number, 1, 1, test_timeout, &got, 0);
    });
    while (!waits) std::this_thread::yield();

    q.close();
    peers.send_from_peer();

    waiter.join();
    CHECK((result == 1 || result == -EBADF));
}

TEST_CASE("one connection is for the older of two queues, or for both if they ask for all",
          "[kevent][flags][K-097]") {
    const std::uint32_t flags = GENERATE(0u, unsigned{KEVENT_REQ_WAKEUP_ALL});
    queue older;
    queue younger;
    const kevring::fd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const sa_family_t unnamed = AF_UNIX;  // the kernel chooses a name
    REQUIRE(::bind(listener.number(), reinterpret_cast<const sockaddr*>(&unnamed),
                   sizeof unnamed) == 0);
    REQUIRE(::listen(listener.number(), 8) == 0);
    sockaddr_storage address{};
    socklen_t size = sizeof address;
    REQUIRE(::getsockname(listener.number(), reinterpret_cast<sockaddr*>(&address), &size) == 0);
    const ukevent request = record(KEVENT_SOCKET, listener.number(), KEVENT_SOCKET_ACCEPT, flags);
    older.add(request);
    younger.add(request);
    std::vector<kevring::fd> clients;
    const auto connect = [&] {
        clients.emplace_back(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
        REQUIRE(::connect(clients.back().number(), reinterpret_cast<sockaddr*>(&address), size) ==
                0);
    };

    for (int round = 0; round < 2; ++round) {
        connect();
        CHECK(younger.has_no_event() == (flags == 0));
        CHECK(is_done(older.get_one()));
        CHECK(older.has_no_event());
        CHECK(younger.has_no_event());
    }

    younger.modify(request);  // MODIFY tests the registration itself
    CHECK(is_done(younger.get_one()));
    older.remove(request);
    connect();
    CHECK(is_done(younger.get_one()));
}

TEST_CASE("a one-shot that kept silent for an older one reports the next event",
          "[kevent][flags]") {
    queue q;
    const auto peers = connected_pair::sockets();
    ukevent older = record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV, KEVENT_REQ_ONESHOT);
    ukevent younger = older;
    younger.id.raw[1] = 1;
    q.add(older);
    q.add(younger);

    peers.send_from_peer();
    CHECK(q.get_one().id.raw[1] == 0);
    CHECK(q.has_no_event());
    peers.send_from_peer();
    CHECK(q.get_one().id.raw[1] == 1);
    CHECK(q.has_no_event());
}

TEST_CASE("an older registration takes only what it waits for itself", "[kevent][flags][K-097]") {
    const auto peers = connected_pair::sockets();
    queue older;
    queue younger;
    older.add(record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_SEND, KEVENT_REQ_ALWAYS_QUEUE));
    younger.add(record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV | KEVENT_SOCKET_SEND,
                       KEVENT_REQ_ALWAYS_QUEUE));
    older.get_one();
    younger.get_one();
    REQUIRE(older.has_no_event());
    REQUIRE(younger.has_no_event());

    peers.send_from_peer();  // and bytes can be sent, as before

    CHECK((younger.get_one().ret_data[0] & KEVENT_SOCKET_RECV) != 0);
}

TEST_CASE("each end of a pipe reports its own half, whichever was added first",
          "[kevent][pipe][K-097]") {
    const auto peers = connected_pair::pipe();
    const std::uint32_t both = KEVENT_SOCKET_RECV | KEVENT_SOCKET_SEND;
    queue q;
    q.add(record(KEVENT_PIPE, peers.peer(), both, KEVENT_REQ_ALWAYS_QUEUE));
    q.add(record(KEVENT_PIPE, peers.local(), both));
    q.get_one();
    REQUIRE(q.has_no_event());

    peers.send_from_peer();

    std::uint32_t reported = 0;
    while (reported != static_cast<std::uint32_t>(peers.local())) reported = q.get_one().id.raw[0];
    CHECK(reported == static_cast<std::uint32_t>(peers.local()));
}

TEST_CASE("a child receives events of a socket that its parent watches too",
          "[kevent][fork][K-097]") {
    const auto peers = connected_pair::sockets();
    queue q;
    q.add(record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV));

    CHECK(in_child([&] {
              const int own = kevent_init(nullptr, 0, KEVENT_INIT_NO_THREAD);
              ukevent one = record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV);
              if (kevent_ctl(own, KEVENT_CTL_ADD, 1, &one) != 0) return 90;
              peers.send_from_peer();
              ukevent got{};
              return kevent_get_events(own, 1, 1, test_timeout, &got, 0);
          }) == 1);
    CHECK(is_done(q.get_one()));
}

TEST_CASE("handlers of a fork may use queues", "[kevent][fork]") {
    static int number = -1;
    static ukevent one;
    static int answer = -1;
    const auto peers = connected_pair::sockets();
    queue q;
    number = q.number();
    one = record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV);
    static const bool registered = ::pthread_atfork(
                                       [] {
                                           if (number < 0) return;
                                           kevent_ctl(number, KEVENT_CTL_ADD, 1, &one);
                                           answer = kevent_ctl(number, KEVENT_CTL_REMOVE, 1, &one);
                                       },
                                       nullptr, nullptr) == 0;
    REQUIRE(registered);

    CHECK(in_child([] { return 7; }) == 7);
    number = -1;
    CHECK(answer == 0);
}

TEST_CASE("a ready record keeps its bits when an older registration takes the next event",
          "[kevent][flags][K-101]") {
    const auto peers = connected_pair::sockets();
    queue other;
    queue q(KEVENT_RING_SIZE_MIN);
    ukevent older = record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV);
    other.add(older);
    q.add(older);
    for (unsigned id = 0; id < KEVENT_RING_SIZE_MIN; ++id)
        q.add(user_event(id, KEVENT_REQ_ALWAYS_QUEUE));
    REQUIRE(q.wait(KEVENT_RING_SIZE_MIN, 0) == KEVENT_RING_SIZE_MIN);  // the ring is full
    older.event = KEVENT_MASK_EMPTY;
    other.modify(older);
    peers.send_from_peer();
    REQUIRE(q.wait(1, 0, milliseconds(1)) == 0);  // ready, and the ring has no space
    older.event = KEVENT_SOCKET_RECV;
    other.modify(older);
    peers.send_from_peer();
    REQUIRE(q.wait(1, 0, milliseconds(1)) == 0);

    const ukevent got = q.get_one();
    CHECK(got.type == KEVENT_SOCKET);
    CHECK(got.ret_data[0] == KEVENT_SOCKET_RECV);
}

TEST_CASE("a release ends a sleeping wait, not a call that does not wait",
          "[kevent][many-threads][ready][threads][K-052]") {
    for (int round = 0; round < 30; ++round) {
        queue q;
        q.add(user_event(1));
        REQUIRE(q.ready(user_event(1)) == 1);
        std::atomic<int> count{-1};
        const auto begin = now();
        observed_thread waiter([&] {
            std::array<ukevent, 2> got;
            count = kevent_get_events(q.number(), 2, 2, test_timeout, got.data(), 0);
        });
        REQUIRE(waiter.sleeps_in_call());

        q.release();
        q.has_no_event();  // may take the user event, but not the release
        waiter.join();
        CHECK(now() - begin < half_of_test_timeout);
        CHECK(count <= 1);
    }
}

TEST_CASE("a wake-up of the queue does not hide an event from a call that does not wait",
          "[kevent][many-threads][collect][K-063]") {
    queue q;
    const auto peers = connected_pair::sockets();
    q.add(record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV));
    // Sometimes a wake-up remains whose event was already collected.
    for (int round = 0; round < 300 && !q.readable(); ++round) {
        q.add(user_event(1, KEVENT_REQ_ALWAYS_QUEUE));
        observed_thread waiter([&] {
            std::array<ukevent, 2> got;
            kevent_get_events(q.number(), 2, 2, test_timeout, got.data(), 0);
        });
        REQUIRE(waiter.sleeps_in_call());
        q.release();
        waiter.join();
        q.remove(user_event(1));
    }
    q.release();
    peers.send_from_peer();

    CHECK_FALSE(q.has_no_event());
}

TEST_CASE("a cancelled thread ends where a call waits, and in no other place of it",
          "[kevent][many-threads][threads][K-127]") {
    const auto peers = connected_pair::sockets();
    const ukevent watched = record(KEVENT_POLL, peers.local(), KEVENT_POLL_POLLIN);
    queue q;
    q.add(watched);
    bool began_to_wait = false;
    bool ended_late = false;
    std::thread other([&] {
        ::pthread_cancel(::pthread_self());
        q.ready(watched);  // writes to a descriptor
        q.has_no_event();  // the last check queries the kernel
        began_to_wait = true;
        ukevent got{};
        kevent_get_events(q.number(), 1, 1, test_timeout, &got, 0);
        ended_late = true;
    });
    other.join();
    CHECK(began_to_wait);
    CHECK_FALSE(ended_late);
    peers.send_from_peer();
    CHECK(is_done(q.get_one()));
}
