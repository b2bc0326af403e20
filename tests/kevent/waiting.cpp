// waiting.cpp: calls that wait while records are ready, several waiting threads, and the order of
// user events and events of the kernel.
#include "tests/kevent/kevent_fixture.hpp"

#include <array>
#include <atomic>
#include <csignal>
#include <memory>
#include <set>
#include <thread>

#include <pthread.h>

using namespace kevent_test;
using namespace std::chrono_literals;

namespace {

struct collected {
    std::vector<ukevent> records{8};
    int count = -1;
};

// Waits in a thread for `min_count` records without limit.
observed_thread collector(const queue& q, unsigned min_count, collected& result) {
    return observed_thread([&q, min_count, &result] {
        result.count =
            kevent_get_events(q.number(), min_count, 8, forever, result.records.data(), 0);
    });
}

bool has_type(const collected& result, std::uint32_t type) {
    for (int i = 0; i < result.count; ++i)
        if (result.records[static_cast<std::size_t>(i)].type == type) return true;
    return false;
}

bool becomes(const queue& q, bool is_readable) {
    const auto end = now() + half_of_test_timeout;
    while (q.readable() != is_readable) {
        if (now() > end) return false;
        std::this_thread::yield();
    }
    return true;
}

}  // namespace

TEST_CASE("a call that sleeps on for more records repeats the last check of those it has",
          "[kevent][many-threads][flags][K-093]") {
    const std::uint32_t type = GENERATE(unsigned{KEVENT_SOCKET}, unsigned{KEVENT_POLL});
    queue q;
    const auto peers = connected_pair::sockets();
    q.add(record(type, peers.local(), 1, KEVENT_REQ_LAST_CHECK));
    q.add(user_event(7));
    q.add(user_event(8));
    collected result;
    auto waiter = collector(q, 2, result);
    REQUIRE(waiter.sleeps_in_call());

    peers.send_from_peer();
    CHECK(becomes(q, true));
    REQUIRE(waiter.sleeps_in_call());
    REQUIRE(peers.drain_local() == 1);
    q.ready(user_event(7));
    REQUIRE(waiter.sleeps_in_call());
    q.ready(user_event(8));
    waiter.join();

    CHECK(result.count == 2);
    CHECK_FALSE(has_type(result, type));
}

TEST_CASE("a record that fails its last check does not count for min_nr",
          "[kevent][many-threads][flags][K-058]") {
    queue q;
    const auto peers = connected_pair::sockets();
    q.add(record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV, KEVENT_REQ_LAST_CHECK));
    q.add(user_event(1, KEVENT_REQ_ALWAYS_QUEUE));
    q.add(user_event(2));
    const ukevent watched = record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV);
    REQUIRE(q.ready(watched) == 1);  // without data
    collected result;
    auto waiter = collector(q, 2, result);
    REQUIRE(waiter.sleeps_in_call());

    q.ready(user_event(2));
    waiter.join();

    CHECK(result.count == 2);
    CHECK_FALSE(has_type(result, KEVENT_SOCKET));
}

TEST_CASE("the control descriptor is readable while a thread waits for more than is ready",
          "[kevent][many-threads][control][threads][K-122]") {
    queue q;
    const auto peers = connected_pair::pipe();
    q.add(user_event(1));
    q.add(record(KEVENT_PIPE, peers.local(), KEVENT_SOCKET_RECV));
    collected result;
    auto waiter = collector(q, 3, result);
    REQUIRE(waiter.sleeps_in_call());
    CHECK_FALSE(q.readable());

    const bool is_user_event = GENERATE(true, false);
    if (is_user_event) {
        q.ready(user_event(1));
    } else {
        peers.send_from_peer();
    }
    CHECK(becomes(q, true));
    REQUIRE(waiter.sleeps_in_call());
    CHECK(q.becomes_readable());

    q.get_one();  // another call may take it
    CHECK_FALSE(q.readable());
    q.release();
    waiter.join();
    CHECK(result.count == 0);
    CHECK_FALSE(q.readable());
}

TEST_CASE("the control descriptor is readable while a thread waits for space in the ring",
          "[kevent][many-threads][control][threads][K-077][K-122]") {
    queue q(2);
    for (unsigned id = 0; id < 4; ++id) q.add(user_event(id, KEVENT_REQ_ALWAYS_QUEUE));
    REQUIRE(q.wait(2, 0) == 2);
    CHECK(q.becomes_readable());
    std::atomic<int> count{-1};
    observed_thread waiter([&] { count = kevent_wait(q.number(), 2, 0, forever, 0); });
    REQUIRE(waiter.sleeps_in_call());

    CHECK(q.becomes_readable());
    CHECK(q.commit(1, 0) == 1);
    waiter.join();

    CHECK(count == 1);
    CHECK(q.becomes_readable());
}

TEST_CASE("an event ends a wait for several that has begun to sleep beside ready records",
          "[kevent][many-threads][threads][K-059]") {
    const unsigned waiter_count = GENERATE(1u, 3u);
    queue q;
    std::vector<connected_pair> pipes;
    for (int i = 0; i < 12; ++i) {
        pipes.push_back(connected_pair::pipe());
        q.add(record(KEVENT_PIPE, pipes.back().local(), KEVENT_SOCKET_RECV));
    }
    std::vector<collected> results(waiter_count);
    std::vector<std::unique_ptr<observed_thread>> waiters;
    for (auto& result : results)
        waiters.push_back(std::make_unique<observed_thread>([&] {
            result.count = kevent_get_events(q.number(), 4, 4, forever, result.records.data(), 0);
        }));
    for (auto& waiter : waiters) REQUIRE(waiter->sleeps_in_call());

    for (unsigned i = 0; i < 4 * waiter_count; ++i) {
        pipes[i].send_from_peer();
        if (i % 3 == 0) std::this_thread::yield();
    }
    for (auto& waiter : waiters) waiter->join();

    for (const auto& result : results) CHECK(result.count == 4);
    CHECK(q.has_no_event());
}

TEST_CASE("user events that never end do not delay a timer", "[kevent][collect][K-056]") {
    queue q;
    constexpr unsigned user_event_count = 64;
    const unsigned max_count = GENERATE(1u, 16u, 64u);
    const auto period = 1ms;
    for (unsigned id = 0; id < user_event_count; ++id)
        q.add(user_event(id, KEVENT_REQ_ALWAYS_QUEUE));
    ukevent timer = record(KEVENT_TIMER, 0, 1);
    timer.id.raw[1] = 1'000'000;
    const auto begin = now();
    q.add(timer);
    unsigned records_after = 0;
    const auto end = begin + half_of_test_timeout;
    for (bool expired = false; !expired && now() < end;) {
        const bool is_due = now() >= begin + period;
        for (const ukevent& one : q.get(1, max_count)) {
            if (one.type == KEVENT_TIMER) expired = true;
            if (one.type == KEVENT_UNOTIFY) q.ready(one);
            if (is_due && !expired) ++records_after;
        }
    }
    // The timer follows the user events that were ready when the queue polled the clock.
    CHECK(records_after <= 4 * user_event_count);
}

TEST_CASE("user events that never end do not delay descriptors", "[kevent][collect][K-056]") {
    constexpr unsigned pipe_count = 400;
    constexpr unsigned user_event_count = 64;
    const unsigned max_count = GENERATE(1u, 63u, 64u, 65u);
    raise_descriptor_limit();
    queue q;
    std::vector<connected_pair> pipes;
    for (unsigned i = 0; i < pipe_count; ++i) {
        pipes.push_back(connected_pair::pipe());
        q.add(record(KEVENT_PIPE, pipes.back().local(), KEVENT_SOCKET_RECV));
    }
    for (const connected_pair& one : pipes) one.send_from_peer();  // first
    for (unsigned id = 0; id < user_event_count; ++id)
        q.add(user_event(id, KEVENT_REQ_ALWAYS_QUEUE));

    std::set<std::uint32_t> delivered;
    unsigned user_events = 0;
    const auto end = now() + half_of_test_timeout;
    while (delivered.size() < pipe_count && now() < end) {
        for (const ukevent& one : q.get(1, max_count)) {
            if (one.type == KEVENT_PIPE) {
                delivered.insert(one.id.raw[0]);
            } else {
                ++user_events;
                q.ready(one);
            }
        }
    }

    CHECK(delivered.size() == pipe_count);
    CHECK(user_events <= 8 * user_event_count);
}

TEST_CASE("MODIFY keeps an event that has come, whatever number is pending",
          "[kevent][modify][K-045]") {
    constexpr unsigned pipe_count = 700;
    raise_descriptor_limit();
    queue q;
    std::vector<connected_pair> pipes;
    for (unsigned i = 0; i < pipe_count; ++i) {
        pipes.push_back(connected_pair::pipe());
        q.add(record(KEVENT_PIPE, pipes.back().local(), KEVENT_SOCKET_RECV));
    }
    for (const connected_pair& one : pipes) one.send_from_peer();

    ukevent last = record(KEVENT_PIPE, pipes.back().local(), KEVENT_MASK_EMPTY);
    q.modify(last);

    std::set<std::uint32_t> delivered;
    while (true) {
        std::array<ukevent, 64> records;
        const int count = kevent_get_events(q.number(), 0, 64, no_wait, records.data(), 0);
        REQUIRE(count >= 0);
        if (count == 0) break;
        for (int i = 0; i < count; ++i)
            delivered.insert(records[static_cast<std::size_t>(i)].id.raw[0]);
    }
    CHECK(delivered.size() == pipe_count);
}

TEST_CASE("a stop and SIGCONT do not end a wait", "[kevent][many-threads][interruptions][K-067]") {
    const unsigned waiter_count = GENERATE(1u, 2u);
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        std::signal(SIGUSR2, [](int) {});  // a handler is installed, and does not run
        const int number = kevent_init(nullptr, 0, KEVENT_INIT_NO_THREAD);
        const auto wait = [&] {
            ukevent got{};
            const auto begin = now();
            const int count = kevent_get_events(number, 1, 1, milliseconds(400), &got, 0);
            if (count != 0 || now() - begin < 400ms) ::_exit(1);
        };
        std::vector<std::thread> waiters;
        for (unsigned i = 0; i < waiter_count; ++i) waiters.emplace_back(wait);
        for (auto& waiter : waiters) waiter.join();
        ::_exit(0);
    }
    int status = 0;
    while (::waitpid(child, &status, WNOHANG) == 0) {
        ::kill(child, SIGSTOP);
        ::waitpid(child, &status, WUNTRACED);
        ::kill(child, SIGCONT);
        std::this_thread::sleep_for(5ms);  // so that it proceeds
    }
    REQUIRE(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("a waiter that stops waiting leaves the kernel's events to another one",
          "[kevent][many-threads][threads][K-124]") {
    enum class end { timeout, cancel, handler };
    const end reason = GENERATE(end::timeout, end::cancel, end::handler);
    queue q;
    const auto peers = connected_pair::sockets();
    q.add(record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV));
    struct sigaction handle{};
    struct sigaction before{};
    handle.sa_handler = [](int) {};
    REQUIRE(::sigaction(SIGUSR2, &handle, &before) == 0);
    observed_thread first([&] {
        // An earlier test may have blocked it: SIGNAL of a queue does.
        sigset_t only;
        ::sigemptyset(&only);
        ::sigaddset(&only, SIGUSR2);
        ::pthread_sigmask(SIG_UNBLOCK, &only, nullptr);
        ukevent got{};
        const timespec limit = reason == end::timeout ? milliseconds(30) : forever;
        kevent_get_events(q.number(), 1, 1, limit, &got, 0);
    });
    REQUIRE(first.sleeps_in_call());
    collected result;
    auto second = collector(q, 1, result);
    REQUIRE(second.sleeps_in_call());

    if (reason == end::cancel) ::pthread_cancel(first.native_handle());
    if (reason == end::handler) ::pthread_kill(first.native_handle(), SIGUSR2);
    first.join();
    peers.send_from_peer();
    second.join();

    CHECK(result.count == 1);
    ::sigaction(SIGUSR2, &before, nullptr);
}

TEST_CASE("a waiter after another one ends for a handler, a timeout and a cancellation",
          "[kevent][many-threads][threads][K-067][K-127]") {
    queue q;
    q.add(user_event(1));
    collected first_result;
    auto first = collector(q, 1, first_result);
    REQUIRE(first.sleeps_in_call());

    ukevent got{};
    CHECK(interrupted([&] { return kevent_get_events(q.number(), 1, 1, forever, &got, 0); },
                      GENERATE(0, SA_RESTART)) == 0);
    const auto begin = now();
    CHECK(kevent_get_events(q.number(), 1, 1, milliseconds(20), &got, 0) == 0);
    CHECK(now() - begin >= 20ms);
    for (int round = 0; round < 20; ++round) {
        std::atomic<bool> ended{false};
        observed_thread second([&] {
            ukevent record{};
            kevent_get_events(q.number(), 1, 1, forever, &record, 0);
            ended = true;
        });
        REQUIRE(second.sleeps_in_call());
        ::pthread_cancel(second.native_handle());
        second.join();
        CHECK_FALSE(ended);
    }

    q.ready(user_event(1));
    first.join();
    CHECK(first_result.count == 1);
}

TEST_CASE("a wake-up of a waiter that is cancelled passes to another one",
          "[kevent][many-threads][threads][K-127]") {
    for (int round = 0; round < 100; ++round) {
        queue q;
        q.add(user_event(1));
        std::atomic<int> count{0};
        const auto wait = [&] {
            ukevent got{};
            count += kevent_get_events(q.number(), 1, 1, forever, &got, 0);
        };
        observed_thread first(wait);
        observed_thread second(wait);
        if (round % 2 == 0) REQUIRE(first.sleeps_in_call());
        if (round % 4 < 2) REQUIRE(second.sleeps_in_call());

        q.ready(user_event(1));
        ::pthread_cancel((round % 3 == 0 ? first : second).native_handle());
        observed_thread& other = round % 3 == 0 ? second : first;
        // The cancelled thread may have taken the event; this one ends the other wait.
        (round % 3 == 0 ? first : second).join();
        q.ready(user_event(1));
        other.join();
        CHECK(count >= 1);
    }
}
