// bad_input.cpp: requests that no correct program makes: wrong and closed descriptors, extreme
// numbers, REMOVE and close() during other calls. Each is refused with an error or has a defined
// effect, and affects no other registration. add.cpp tests null pointers and closed queues.
#include "tests/kevent/kevent_fixture.hpp"

#include <atomic>
#include <climits>
#include <filesystem>
#include <iterator>
#include <limits>
#include <memory>
#include <thread>

#include <sys/epoll.h>
#include <sys/eventfd.h>

using namespace kevent_test;

namespace {

int add_error(queue& q, ukevent one) {
    REQUIRE(q.ctl(KEVENT_CTL_ADD, one) == 1);
    CHECK(is_broken(one));
    return error_of(one);
}

void wait_until_readable(const queue& q) {
    pollfd control{q.number(), POLLIN, 0};
    REQUIRE(::poll(&control, 1, 60'000) == 1);
}

}  // namespace

TEST_CASE("each type refuses invalid origins, and ready registrations stay ready",
          "[kevent][bad_input]") {
    queue q;
    const auto peers = connected_pair::sockets();
    q.add(user_event(1));
    q.ready(user_event(1));

    for (const int closed : {-1, 1 << 20, INT_MIN}) {
        CHECK(add_error(q, record(KEVENT_INODE, closed, KEVENT_INODE_CREATE)) == -EBADF);
        CHECK(add_error(q, record(KEVENT_SOCKET, closed, 0)) == -EBADF);
    }
    for (const int nobody : {0, -1, INT_MIN})
        CHECK(add_error(q, record(KEVENT_PROCESS, nobody, KEVENT_PROCESS_EXIT)) == -EINVAL);
    CHECK(add_error(q, record(KEVENT_PROCESS, INT_MAX, KEVENT_PROCESS_EXIT)) == -ESRCH);
    CHECK(add_error(q, record(KEVENT_SOCKET, q.number(), KEVENT_SOCKET_RECV)) == -ENOTSOCK);
    CHECK(add_error(q, record(KEVENT_PIPE, q.number(), KEVENT_SOCKET_RECV)) == -EINVAL);
    CHECK(add_error(q, record(KEVENT_SIGNAL, peers.local(), KEVENT_SIGNAL_DELIVERY)) != 0);

    CHECK(q.get_one().type == KEVENT_UNOTIFY);
}

TEST_CASE("a queue cannot watch itself, and two cannot watch each other", "[kevent][bad_input]") {
    queue one;
    queue other;
    const auto watch = [](const queue& inner) {
        return record(KEVENT_POLL, inner.number(), KEVENT_POLL_POLLIN);
    };

    CHECK(add_error(one, watch(one)) == -EINVAL);
    one.add(watch(other));
    CHECK(add_error(other, watch(one)) == -ELOOP);

    other.add(user_event(1));
    other.ready(user_event(1));
    CHECK(one.get_one().type == KEVENT_POLL);
    CHECK(other.get_one().type == KEVENT_UNOTIFY);
}

TEST_CASE("an epoll set, and a duplicate of a control descriptor, are no queues",
          "[kevent][bad_input][K-015]") {
    queue q;
    const kevring::fd set(::epoll_create1(EPOLL_CLOEXEC));
    const kevring::fd duplicate(::fcntl(q.number(), F_DUPFD_CLOEXEC, 0));
    ukevent one = user_event(1);

    for (const int number : {set.number(), duplicate.number()}) {
        CHECK(kevent_ctl(number, KEVENT_CTL_ADD, 1, &one) == -EINVAL);
        CHECK(kevent_get_events(number, 1, 1, no_wait, &one, 0) == -EINVAL);
    }
    q.add(one);
}

TEST_CASE("a duplicate that gets the number of a closed queue does not reach the closed one",
          "[kevent][bad_input][close][K-015]") {
    const unsigned flags = GENERATE(0u, unsigned{KEVENT_INIT_NO_THREAD});
    const int closed = kevent_init(nullptr, 0, flags);
    const int other = kevent_init(nullptr, 0, flags);
    REQUIRE((closed >= 0 && other >= 0));
    auto peers = connected_pair::sockets();
    ukevent request = record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV);
    REQUIRE(kevent_ctl(closed, KEVENT_CTL_ADD, 1, &request) == 0);
    peers.close_local();

    REQUIRE(::dup2(other, closed) == closed);

    ukevent one = user_event(1);
    CHECK(kevent_ctl(closed, KEVENT_CTL_ADD, 1, &one) == -EINVAL);
    CHECK(kevent_get_events(closed, 1, 1, no_wait, &one, 0) == -EINVAL);
    CHECK(peers.peer_sees_end());
    CHECK(kevent_ctl(other, KEVENT_CTL_ADD, 1, &one) == 0);
    ::close(closed);
    CHECK(kevent_ctl(other, KEVENT_CTL_REMOVE, 1, &one) == 0);
    ::close(other);
}

TEST_CASE("a queue is found whatever flags other threads set on its descriptor",
          "[kevent][bad_input][K-061]") {
    queue q;
    q.add(user_event(1));
    std::atomic<bool> over{false};
    std::thread other([&] {
        for (int flags = 0; !over; flags ^= O_NONBLOCK | O_APPEND)
            ::fcntl(q.number(), F_SETFL, flags);
    });
    std::size_t failed_count = 0;
    for (int round = 0; round < 20'000; ++round) {
        ukevent one = user_event(1);
        if (kevent_ctl(q.number(), KEVENT_CTL_READY, 1, &one) != 1) ++failed_count;
        if (kevent_get_events(q.number(), 1, 1, test_timeout, &one, 0) != 1) ++failed_count;
    }
    over = true;
    other.join();

    CHECK(failed_count == 0);
    // O_NONBLOCK is read at each call.
    ukevent one{};
    REQUIRE(::fcntl(q.number(), F_SETFL, O_NONBLOCK) == 0);
    CHECK(kevent_get_events(q.number(), 1, 1, forever, &one, 0) == 0);
    CHECK(kevent_get_events(q.number(), 1, 1, {-2, 0}, &one, 0) == 0);
    REQUIRE(::fcntl(q.number(), F_SETFL, 0) == 0);
    CHECK(kevent_get_events(q.number(), 1, 1, {-2, 0}, &one, 0) == -EINVAL);
}

TEST_CASE("hidden descriptors leave the numbers 0, 1 and 2 alone", "[kevent][bad_input][low]") {
    const auto is_so = [] {
        auto peers = connected_pair::sockets();
        const auto pipe = connected_pair::pipe();
        const kevring::fd folder(::open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        ukevent timer = record(KEVENT_TIMER, 3600, KEVENT_TIMER_FIRED);
        ukevent signal = record(KEVENT_SIGNAL, SIGUSR2, KEVENT_SIGNAL_DELIVERY);
        signal.id.raw_u64 |= KEVENT_SIGNAL_NOMASK;
        std::array<ukevent, 8> requests{record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV),
                                        record(KEVENT_POLL, peers.local(), KEVENT_POLL_POLLIN),
                                        record(KEVENT_PIPE, pipe.local(), KEVENT_SOCKET_RECV),
                                        record(KEVENT_INODE, folder.number(), KEVENT_INODE_CREATE),
                                        record(KEVENT_PROCESS, ::getpid(), KEVENT_PROCESS_EXIT),
                                        timer,
                                        signal,
                                        user_event(1)};
        std::array<char, 8> buffer{};
        const itimerspec hour{{3600, 0}, {3600, 0}};
        for (const int number : {0, 1, 2}) ::close(number);

        const int q = kevent_init(nullptr, 0, 0);
        if (q < 0) return 1;
        if (kevent_ctl(q, KEVENT_CTL_ADD, requests.size(), requests.data()) != 0) return 2;
        if (aio_recv(q, peers.local(), buffer.data(), buffer.size(), 0) <= 0) return 3;
        if (kevent_timer_create(q, CLOCK_MONOTONIC, &hour, 0, nullptr) <= 0) return 4;
        for (const int number : {0, 1, 2})
            if (::fcntl(number, F_GETFD) >= 0) return 10 + number;
        return 0;
    };
    CHECK(in_child(is_so) == 0);
}

TEST_CASE("a file without a poll operation is refused as POLL", "[kevent][bad_input][K-029]") {
    queue q;
    for (const char* const path :
         {"/dev/null", "/dev/zero", "/dev/full", "/tmp", "/proc/self/exe"}) {
        CAPTURE(path);
        const kevring::fd file(::open(path, O_RDONLY | O_CLOEXEC));
        REQUIRE(file);
        for (const std::uint32_t req_flags :
             {0u, KEVENT_REQ_ALWAYS_QUEUE, KEVENT_REQ_READY, KEVENT_REQ_ONESHOT}) {
            for (const std::uint32_t event : {KEVENT_POLL_POLLIN, KEVENT_POLL_POLLPRI}) {
                const ukevent request = record(KEVENT_POLL, file.number(), event, req_flags);
                CHECK(add_error(q, request) == -EINVAL);
            }
        }
    }
    // These have all four bits set, too, and have a poll operation.
    const auto peers = connected_pair::sockets();
    peers.send_from_peer();
    const kevring::fd counter(::eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK));
    for (const int number : {peers.local(), counter.number()}) {
        ukevent one = record(KEVENT_POLL, number, KEVENT_POLL_POLLIN | KEVENT_POLL_POLLOUT);
        CHECK(q.ctl(KEVENT_CTL_ADD, one) == 1);
        CHECK(is_done(one));
    }
}

TEST_CASE("a reused descriptor number does not mislead an older registration",
          "[kevent][bad_input][K-102]") {
    queue q;
    auto first = connected_pair::sockets();
    const ukevent request = record(KEVENT_SOCKET, first.local(), KEVENT_SOCKET_RECV);
    q.add(request);

    // The number refers to another socket now, which has bytes to receive.
    const auto second = connected_pair::sockets();
    const int number = first.local();
    REQUIRE(::dup2(second.local(), number) == number);
    second.send_from_peer();

    CHECK(q.has_no_event());
    CHECK(is_done(q.modify(request)));
    CHECK(q.has_no_event());
    first.send_from_peer();
    CHECK(q.get_one().id.raw[0] == request.id.raw[0]);
    q.remove(request);
    CHECK(first.peer_sees_end());
}

TEST_CASE("more records than registrations are refused before a record is read",
          "[kevent][bad_input][K-037][K-050]") {
    queue q;
    q.add(user_event(1));
    ukevent one = user_event(1);

    for (const unsigned command : {KEVENT_CTL_REMOVE, KEVENT_CTL_MODIFY, KEVENT_CTL_READY}) {
        CHECK(kevent_ctl(q.number(), command, UINT_MAX, &one) == -EINVAL);
        CHECK(kevent_ctl(q.number(), command, 1u << 31, &one) == -EINVAL);
    }
    CHECK(one.ret_flags == 0);
    CHECK(kevent_ctl(q.number(), UINT_MAX, 1, &one) == -EINVAL);
    CHECK(q.has_no_event());
    q.remove(user_event(1));
}

TEST_CASE("a call for more records than can be ready returns the ready ones",
          "[kevent][bad_input][K-060][K-071][K-078]") {
    queue q(2);
    q.add(user_event(1));
    q.add(user_event(2));
    q.ready(user_event(1));
    q.ready(user_event(2));
    std::array<ukevent, 2> got{};

    CHECK(q.wait(UINT_MAX, 0) == -EINVAL);
    CHECK(kevent_get_events(q.number(), UINT_MAX, UINT_MAX, no_wait, got.data(), 0) == 2);
    CHECK(got[1].id.raw_u64 == 2);

    CHECK(q.commit(UINT_MAX, 0) == -EINVAL);
    CHECK(q.commit(0, UINT_MAX) <= 0);
    CHECK(q.commit(0, 1u << 31) == -EOVERFLOW);
    CHECK(q.wait(2, UINT_MAX, test_timeout) == 0);  // an invalid index counts as stale
    CHECK(q.commit(0, 1) == 2);
}

TEST_CASE("a deadline in the far future is waited for like any other",
          "[kevent][bad_input][K-062]") {
    queue q;
    q.add(user_event(1));
    const timespec never{std::numeric_limits<time_t>::max(), 999'999'999};
    const unsigned flags = GENERATE(0u, unsigned{KEVENT_FLAGS_ABSTIME});
    ukevent got{};

    std::thread other([&] { q.ready(user_event(1)); });
    CHECK(kevent_get_events(q.number(), 1, 1, never, &got, flags) == 1);
    other.join();

    ukevent slowest = record(KEVENT_TIMER, -1, KEVENT_TIMER_FIRED);
    slowest.id.raw[1] = 999'999'999;
    q.add(slowest);
    CHECK(q.has_no_event());
    q.remove(slowest);
    const itimerspec when{never, never};
    const long timer = kevent_timer_create(q.number(), CLOCK_MONOTONIC, &when, 0, nullptr);
    CHECK(timer > 0);
    CHECK(q.has_no_event());
}

TEST_CASE("a request with every bit set is still one event", "[kevent][bad_input]") {
    queue q;
    const auto peers = connected_pair::sockets();
    ukevent wild = record(KEVENT_SOCKET, peers.local(), UINT_MAX, UINT_MAX);
    wild.id.raw[1] = UINT_MAX;
    wild.ret_flags = UINT_MAX;

    q.add(wild);
    const auto got = q.get();

    REQUIRE(got.size() == 1);
    CHECK(is_done(got[0]));
    CHECK(got[0].id.raw_u64 == wild.id.raw_u64);
    CHECK(q.has_no_event());
}

TEST_CASE("removing a ready registration affects no other, and its key is free",
          "[kevent][bad_input][K-038]") {
    queue q;
    const auto sockets = connected_pair::sockets();
    const auto pipe = connected_pair::pipe();
    sockets.send_from_peer();
    pipe.send_from_peer();
    ukevent timer = record(KEVENT_TIMER, 0, KEVENT_TIMER_FIRED);
    timer.id.raw[1] = 1'000'000;
    const std::vector<ukevent> requests{
        record(KEVENT_SOCKET, sockets.local(), KEVENT_SOCKET_RECV, KEVENT_REQ_ALWAYS_QUEUE),
        record(KEVENT_POLL, sockets.local(), KEVENT_POLL_POLLIN, KEVENT_REQ_ALWAYS_QUEUE),
        record(KEVENT_PIPE, pipe.local(), KEVENT_SOCKET_RECV, KEVENT_REQ_ALWAYS_QUEUE),
        user_event(7, KEVENT_REQ_ALWAYS_QUEUE), timer};
    for (const ukevent& request : requests) {
        CAPTURE(request.type);
        q.add(request);
        wait_until_readable(q);

        q.add(user_event(1));
        q.ready(user_event(1));
        q.remove(request);

        CHECK(q.get_one().id.raw_u64 == user_event(1).id.raw_u64);
        CHECK(q.has_no_event());
        q.add(request);
        q.remove(request);
        q.remove(user_event(1));
        CHECK_FALSE(q.stays_readable());
    }
}

TEST_CASE("no call collects a registration after its REMOVE has returned",
          "[kevent][many-threads][bad_input][K-038]") {
    constexpr std::uint64_t round_count = 300;
    queue q;
    const auto peers = connected_pair::sockets();
    std::atomic<std::uint64_t> removed{0};
    std::atomic<bool> over{false};
    std::uint64_t late_count = 0;
    std::thread collector([&] {
        while (!over) {
            const std::uint64_t before = removed;
            ukevent got{};
            const int count = kevent_get_events(q.number(), 1, 1, milliseconds(1), &got, 0);
            if (count == 1 && got.user_u64 <= before) ++late_count;
        }
    });

    std::uint64_t missing_count = 0;
    for (std::uint64_t round = 1; round <= round_count; ++round) {
        ukevent one = record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV);
        one.user_u64 = round;
        if (kevent_ctl(q.number(), KEVENT_CTL_ADD, 1, &one) != 0) ++missing_count;
        peers.send_from_peer();
        if (round % 2 == 0) std::this_thread::yield();
        kevent_ctl(q.number(), KEVENT_CTL_REMOVE, 1, &one);
        if (one.ret_flags != KEVENT_RET_DONE) ++missing_count;
        removed = round;
        peers.drain_local();
    }
    over = true;
    collector.join();

    CHECK(missing_count == 0);
    CHECK(late_count == 0);
}

TEST_CASE("waits of a closed queue end at their time, and then its files are released",
          "[kevent][many-threads][bad_input][close][K-128]") {
    constexpr unsigned waiter_count = 4;
    queue q(4);
    const int number = q.number();
    auto peers = connected_pair::sockets();
    q.add(record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV));
    peers.close_local();
    std::atomic<unsigned> begun{0};
    std::array<int, waiter_count> results{};
    std::vector<std::thread> waiters;
    for (unsigned i = 0; i < waiter_count; ++i)
        waiters.emplace_back([&, i] {
            ukevent got{};
            ++begun;
            results[i] = i % 2 == 0 ? kevent_get_events(number, 1, 1, milliseconds(100), &got, 0)
                                    : kevent_wait(number, 1, 0, milliseconds(100), 0);
        });
    while (begun < waiter_count) std::this_thread::yield();

    q.close();

    for (std::thread& each : waiters) each.join();
    for (const int result : results) CHECK((result == 0 || result == -EBADF));
    CHECK(peers.peer_sees_end());
}

TEST_CASE("a queue without a thread starts none, and the next queue finds it closed",
          "[kevent][bad_input][close]") {
    const auto thread_count = [] {
        const std::filesystem::directory_iterator threads("/proc/self/task");
        return std::distance(begin(threads), end(threads));
    };
    const auto is_so = [&] {
        const auto threads_before = thread_count();
        auto peers = connected_pair::sockets();
        const int number = kevent_init(nullptr, 0, KEVENT_INIT_NO_THREAD);
        ukevent request = record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV);
        if (number < 0 || kevent_ctl(number, KEVENT_CTL_ADD, 1, &request) != 0) return 1;
        peers.close_local();
        if (thread_count() != threads_before) return 2;
        ::close(number);
        if (kevent_init(nullptr, 0, KEVENT_INIT_NO_THREAD) < 0) return 3;
        return peers.peer_sees_end() ? 0 : 4;
    };
    CHECK(in_child(is_so) == 0);
}

TEST_CASE("waiters of a closed queue do not use a new queue that has its number",
          "[kevent][many-threads][bad_input][close]") {
    auto old = std::make_unique<queue>();
    const int number = old->number();
    const auto peers = connected_pair::sockets();
    old->add(record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV));
    std::atomic<bool> begun{false};
    std::atomic<int> result{-1};
    ukevent got{};
    std::thread waiter([&] {
        begun = true;
        result = kevent_get_events(number, 1, 1, test_timeout, &got, 0);
    });
    while (!begun) std::this_thread::yield();

    old->close();
    queue next;
    next.add(user_event(1));
    next.ready(user_event(1));
    const bool same_number = next.number() == number;
    peers.send_from_peer();
    waiter.join();

    // If the call began after the close, the number was closed, or belonged to the new queue, or to
    // another file that the new queue opened and closed.
    if (result == 1 && got.type == KEVENT_SOCKET) CHECK(next.get_one().type == KEVENT_UNOTIFY);
    if (result == 1 && got.type == KEVENT_UNOTIFY) CHECK(same_number);
    if (result != 1) CHECK((result == -EBADF || result == -EINVAL));
}
