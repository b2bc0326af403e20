// driver.cpp: a queue with KEVENT_INIT_ASYNC: a thread of the library fills the ring as events
// complete.
#include "tests/kevent/driven_queue.hpp"

#include <algorithm>
#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include <pthread.h>

using namespace kevent_test;

TEST_CASE("events are published without a call", "[kevent][driver_port][K-072]") {
    driven_queue q(8);
    const auto peers = connected_pair::sockets();
    const auto pipe = connected_pair::pipe();
    q.add(record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV));
    q.add(record(KEVENT_PIPE, pipe.local(), KEVENT_SOCKET_RECV));
    q.add(user_event(7));

    peers.send_from_peer();
    CHECK(q.take().type == KEVENT_SOCKET);
    pipe.send_from_peer();
    CHECK(q.take().type == KEVENT_PIPE);
    q.ready(user_event(7));
    CHECK(q.take().type == KEVENT_UNOTIFY);
    CHECK(q.filled() == 0);

    peers.send_from_peer();
    const ukevent again = q.take();
    CHECK(is_done(again));
    CHECK(again.ret_data[0] == KEVENT_SOCKET_RECV);
}

TEST_CASE("timers, signals and ends of processes are published without a call",
          "[kevent][driver_port][K-103][K-110]") {
    driven_queue q(8);
    ukevent timer = record(KEVENT_TIMER, 0, KEVENT_TIMER_FIRED);
    timer.id.raw[1] = 5'000'000;
    const auto begin = now();
    q.add(timer);
    for (int i = 0; i < 3; ++i) CHECK(q.take().type == KEVENT_TIMER);
    CHECK(now() - begin >= std::chrono::milliseconds(15));
    q.remove(timer);
    while (q.filled() != 0) q.take();

    ukevent signal = record(KEVENT_SIGNAL, 0, KEVENT_SIGNAL_DELIVERY);
    signal.id.raw_u64 = SIGUSR2 | KEVENT_SIGNAL_NOMASK;
    q.add(signal);
    ::kill(::getpid(), SIGUSR2);
    CHECK(q.take().type == KEVENT_SIGNAL);
    q.remove(signal);

    const pid_t child = ::fork();
    if (child == 0) ::_exit(3);
    q.add(record(KEVENT_PROCESS, child, KEVENT_PROCESS_EXIT,
                 KEVENT_REQ_ONESHOT | KEVENT_REQ_ALWAYS_QUEUE));
    CHECK(q.take().ret_data[0] == 3);
    CHECK(::waitpid(child, nullptr, 0) == child);
}

TEST_CASE("a wait ends at once while the ring has records or old_uidx is stale",
          "[kevent][driver_port][K-075][K-076]") {
    driven_queue q(8);
    for (std::uint64_t id = 0; id < 3; ++id) q.add(user_event(id));
    CHECK(q.wait(8, 0) == 0);
    q.ready(user_event(0));
    q.ready(user_event(1));

    CHECK(q.wait(8, 0, forever) == 2);
    CHECK(q.wait(1, 0, forever) == 1);
    CHECK(q.commit(1, 0) == 1);
    CHECK(q.wait(8, 0, forever) == 1);
    CHECK(q.commit(2, 0) == 1);
    CHECK(q.wait(8, 0, forever) == 0);

    observed_thread waiter([&] { q.wait(8, 2, test_timeout); });
    CHECK(waiter.sleeps_in_call());
    CHECK_FALSE(waiter.ended());
    q.ready(user_event(2));
    waiter.join();
    CHECK(q.filled() == 3);
}

TEST_CASE("a registration has one record in the ring that is not committed",
          "[kevent][driver_port][K-098]") {
    driven_queue q(8);
    const auto peers = connected_pair::sockets();
    q.add(user_event(1));
    q.add(record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV));
    q.ready(user_event(1));
    for (int i = 0; i < 3; ++i) q.ready(user_event(1));
    CHECK(q.filled() == 1);
    peers.send_from_peer();
    CHECK(q.reaches(2));
    peers.send_from_peer();

    CHECK(q.take().ret_data[1] == 1);
    CHECK(q.reaches(2));  // by the commit
    CHECK(q.take().type == KEVENT_SOCKET);
    const ukevent merged = q.take();
    CHECK(merged.type == KEVENT_UNOTIFY);
    CHECK(merged.ret_data[1] == 3);
    CHECK(q.take().type == KEVENT_SOCKET);
    CHECK(q.filled() == 0);
}

TEST_CASE("all slots but one are filled, and each commit publishes the next in order",
          "[kevent][driver_port][K-056][K-073][K-077]") {
    driven_queue q(4);
    for (std::uint64_t id = 0; id < 8; ++id) q.add(user_event(id));
    for (std::uint64_t id = 0; id < 8; ++id) q.ready(user_event(id));
    CHECK(q.filled() == 3);

    for (std::uint64_t id = 0; id < 8; ++id) {
        CHECK(q.take().id.raw_u64 == id);
        CHECK(q.filled() == std::min<std::uint64_t>(3, 7 - id));
    }
    CHECK(q.ring_over() == 2);
}

TEST_CASE("get_events takes from the ring and commits",
          "[kevent][driver_port][K-057][K-059][K-060]") {
    driven_queue q(8);
    for (std::uint64_t id = 0; id < 6; ++id) q.add(user_event(id));
    for (std::uint64_t id = 0; id < 5; ++id) q.ready(user_event(id));

    CHECK(q.get(1, 4).size() == 4);
    CHECK(q.get(0, 4).size() == 1);
    CHECK(q.get(0, 4).empty());
    CHECK(q.commit(5, 0) == 0);

    std::vector<ukevent> records;
    observed_thread waiter([&] { records = q.get(2, 4); });
    CHECK(waiter.sleeps_in_call());
    q.ready(user_event(1));
    CHECK(waiter.sleeps_in_call());
    CHECK_FALSE(waiter.ended());
    q.ready(user_event(0));
    waiter.join();
    REQUIRE(records.size() == 2);
    CHECK(records[0].id.raw_u64 == 1);
}

TEST_CASE("a last check is made when the record is published", "[kevent][driver_port][K-093]") {
    driven_queue q(2);
    const auto peers = connected_pair::sockets();
    q.add(user_event(1));
    q.add(record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV, KEVENT_REQ_LAST_CHECK));
    q.ready(user_event(1));
    peers.send_from_peer();  // the ring is full
    q.ready(user_event(1));
    peers.drain_local();

    q.take();
    CHECK(q.take().type == KEVENT_UNOTIFY);
    peers.send_from_peer();
    const ukevent checked = q.take();
    CHECK(checked.type == KEVENT_SOCKET);
    CHECK(checked.req_flags == 0);
}

TEST_CASE("a one-shot is published once, and its key is free", "[kevent][driver_port][K-088]") {
    driven_queue q(4);
    const auto peers = connected_pair::sockets();
    const ukevent one =
        record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV, KEVENT_REQ_ONESHOT);
    for (int i = 0; i < 3; ++i) {
        q.add(one);
        peers.send_from_peer();
        q.take();
        peers.drain_local();
        CHECK(q.filled() == 0);
    }
}

TEST_CASE("each published record wakes one thread", "[kevent][driver_port][K-124][K-125]") {
    driven_queue q(16);
    const auto peers = connected_pair::sockets();
    for (std::uint64_t id = 0; id < 2; ++id) q.add(user_event(id));
    q.add(record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV));
    std::atomic<int> returned{0};
    std::vector<std::unique_ptr<observed_thread>> waiters;
    for (int i = 0; i < 2; ++i)
        waiters.push_back(std::make_unique<observed_thread>([&] {
            q.wait(16, 0, test_timeout);
            ++returned;
        }));
    for (auto& waiter : waiters) REQUIRE(waiter->sleeps_in_call());

    peers.send_from_peer();
    const auto begin = now();
    while (returned == 0 && now() - begin < half_of_test_timeout) std::this_thread::yield();
    for (int i = 0; i < 1000; ++i) std::this_thread::yield();
    CHECK(returned == 1);

    q.ready(user_event(1));
    for (auto& waiter : waiters) waiter->join();
    CHECK(q.filled() == 2);
}

TEST_CASE("a wait on a driven queue ends by a signal handler and by READY",
          "[kevent][driver_port][K-052][K-053][K-054][K-067]") {
    driven_queue q(4);
    CHECK(interrupted([&] { return q.wait(4, 0, test_timeout); }) == 0);
    CHECK(interrupted([&] { return q.wait(4, 0, test_timeout); }, SA_RESTART) == 0);

    for (int i = 0; i < 3; ++i) q.release();
    CHECK(q.readable());
    CHECK(q.wait(4, 0, test_timeout) == 0);
    CHECK_FALSE(q.readable());
    observed_thread waiter([&] { q.wait(4, 0, test_timeout); });
    CHECK(waiter.sleeps_in_call());
    q.release();
    waiter.join();
}

TEST_CASE("a thread that is cancelled in a wait leaves its record to another",
          "[kevent][driver_port][K-127]") {
    driven_queue q(4);
    q.add(user_event(1));
    q.add(user_event(2));
    for (int i = 0; i < 50; ++i) {
        std::atomic<int> woken{0};
        pthread_t cancelled;
        struct shared {
            queue& q;
            unsigned uidx;
        } context{q, q.uidx()};
        REQUIRE(::pthread_create(
                    &cancelled, nullptr,
                    [](void* given) -> void* {
                        auto& from = *static_cast<shared*>(given);
                        from.q.wait(4, from.uidx, test_timeout);
                        return nullptr;
                    },
                    &context) == 0);
        std::thread other([&] { woken = q.wait(4, context.uidx, test_timeout); });

        std::thread canceller([&] { ::pthread_cancel(cancelled); });
        q.ready(user_event(1));

        canceller.join();
        void* end = nullptr;
        ::pthread_join(cancelled, &end);
        // A thread that returned before its cancellation has taken the record.
        const bool was_cancelled = end == PTHREAD_CANCELED;
        if (!was_cancelled) q.ready(user_event(2));
        other.join();
        CHECK(woken >= 1);
        while (q.filled() != 0) q.take();
    }
}

TEST_CASE(
    "a thread that is cancelled in a wait leaves its record to a poll of the control descriptor",
    "[kevent][driver_port][K-122][K-127]") {
    const unsigned min_count = GENERATE(1u, 3u);
    driven_queue q(8);
    q.add(user_event(1));
    for (int i = 0; i < 50; ++i) {
        struct context {
            queue& q;
            unsigned min_count;
        } shared{q, min_count};
        pthread_t cancelled;
        REQUIRE(::pthread_create(
                    &cancelled, nullptr,
                    [](void* given) -> void* {
                        const auto& from = *static_cast<context*>(given);
                        ukevent got[3];
                        kevent_get_events(from.q.number(), from.min_count, 3, test_timeout, got, 0);
                        return nullptr;
                    },
                    &shared) == 0);

        std::thread canceller([&] { ::pthread_cancel(cancelled); });
        q.ready(user_event(1));

        canceller.join();
        void* end = nullptr;
        ::pthread_join(cancelled, &end);
        if (end != PTHREAD_CANCELED) continue;  // it has taken the record
        pollfd readable{q.number(), POLLIN, 0};
        CHECK(::poll(&readable, 1, 60'000) == 1);
        REQUIRE(q.get(1, 3).size() == 1);
    }
}

namespace {

bool becomes_unreadable(const driven_queue& q) {
    const auto end = now() + std::chrono::seconds(60);
    while (q.readable() && now() < end) std::this_thread::yield();
    return !q.readable();
}

}  // namespace

TEST_CASE("the control descriptor is readable while no thread takes what is published",
          "[kevent][driver_port][K-122][K-123]") {
    driven_queue inner(4);
    queue outer;
    const auto peers = connected_pair::sockets();
    inner.add(record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV));
    outer.add(record(KEVENT_POLL, inner.number(), KEVENT_POLL_POLLIN));
    CHECK_FALSE(inner.readable());

    for (int i = 0; i < 3; ++i) {
        peers.send_from_peer();
        CHECK(outer.get_one().type == KEVENT_POLL);
        CHECK(inner.readable());
        inner.take();
        CHECK(
            becomes_unreadable(inner));  // the driver may be between the record and the descriptor
        peers.drain_local();
    }
}

TEST_CASE("the control descriptor is readable while a thread waits for more than is published",
          "[kevent][driver_port][K-122]") {
    driven_queue q(8);
    for (std::uint64_t id = 0; id < 3; ++id) q.add(user_event(id));
    const bool waits_first = GENERATE(true, false);
    std::size_t count = 0;
    if (!waits_first) q.ready(user_event(0));
    observed_thread waiter([&] { count = q.get(3, 3).size(); });
    CHECK(waiter.sleeps_in_call());

    if (waits_first) q.ready(user_event(0));
    pollfd readable{q.number(), POLLIN, 0};
    CHECK(::poll(&readable, 1, 60'000) == 1);
    CHECK_FALSE(waiter.ended());
    q.ready(user_event(1));
    q.ready(user_event(2));
    waiter.join();

    CHECK(count == 3);
    CHECK(becomes_unreadable(q));
}
