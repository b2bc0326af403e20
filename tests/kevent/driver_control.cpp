// driver_control.cpp: kevent_init, the control calls, close and fork with a queue that a thread of the
// library fills.
#include "tests/kevent/driven_queue.hpp"
#include "tests/kevent/ring_consumers.hpp"

#include <array>
#include <atomic>
#include <cstddef>
#include <cstring>
#include <thread>
#include <vector>

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

using namespace kevent_test;

namespace {

// Refuses io_uring to the calling process, as a sandbox does.
void refuse_io_uring() {
    const sock_filter refuse[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const sock_fprog program{4, const_cast<sock_filter*>(refuse)};
    KEVRING_ASSERT(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
                       ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0,
                   "test setup: no filter; run it where seccomp(2) is allowed");
}

}  // namespace

TEST_CASE("an asynchronous queue needs a ring", "[kevent][driver_port][K-010]") {
    CHECK(kevent_init(nullptr, 0, KEVENT_INIT_ASYNC) == -EINVAL);
    driven_queue q(2);
    CHECK(q.ring_kidx() == 0);
    CHECK(q.ring_over() == 0);
}

TEST_CASE("kevent_init reports that the system refuses io_uring", "[kevent][driver_port]") {
    CHECK(in_child([] {
              refuse_io_uring();
              std::array<std::uint64_t, 21> memory{};
              auto* const ring = reinterpret_cast<kevent_ring*>(memory.data());
              return -kevent_init(ring, 4, KEVENT_INIT_ASYNC);
          }) == EPERM);
}

TEST_CASE("a removed registration that is held is published no more",
          "[kevent][driver_port][K-039]") {
    driven_queue q(8);
    q.add(user_event(1));
    q.add(user_event(2));
    q.ready(user_event(1));
    q.ready(user_event(1));
    q.remove(user_event(1));
    CHECK(q.filled() == 1);  // it was published before

    CHECK(q.take().id.raw_u64 == 1);
    CHECK(q.filled() == 0);
    q.add(user_event(1));
    q.ready(user_event(1));
    CHECK(q.take().id.raw_u64 == 1);
}

TEST_CASE("REMOVE releases the files of a driven queue before it returns, and close releases them",
          "[kevent][driver_port][K-102][K-128]") {
    auto removed = connected_pair::sockets();
    auto closed = connected_pair::sockets();
    driven_queue q(4);
    const ukevent one = record(KEVENT_SOCKET, removed.local(), KEVENT_SOCKET_RECV);
    q.add(one);
    q.add(record(KEVENT_SOCKET, closed.local(), KEVENT_SOCKET_RECV));
    removed.close_local();
    closed.close_local();
    CHECK_FALSE(removed.peer_sees_end(0));

    q.remove(one);
    CHECK(removed.peer_sees_end(0));
    CHECK_FALSE(closed.peer_sees_end(0));
    const int number = q.number();
    SECTION("close()") {
        q.close();
        CHECK(closed.peer_sees_end());
        CHECK(kevent_close(number) == -EBADF);
    }
    SECTION("kevent_close()") {
        CHECK(kevent_close(number) == 0);
        CHECK(closed.peer_sees_end(0));
        CHECK(kevent_close(number) == -EBADF);
    }
}

TEST_CASE("one REMOVE of a driven queue releases many files before it returns",
          "[kevent][driver_port][K-038][K-102]") {
    constexpr unsigned count = 64;
    std::vector<connected_pair> pairs;
    std::vector<ukevent> records;
    driven_queue q(4);
    for (unsigned i = 0; i < count; ++i) {
        pairs.push_back(connected_pair::sockets());
        records.push_back(record(KEVENT_SOCKET, pairs[i].local(), KEVENT_SOCKET_RECV));
    }
    for (int round = 0; round < 20; ++round) {
        std::vector<ukevent> added = records;
        REQUIRE(kevent_ctl(q.number(), KEVENT_CTL_ADD, count, added.data()) == 0);
        if (round == 19)
            for (auto& pair : pairs) pair.close_local();
        REQUIRE(kevent_ctl(q.number(), KEVENT_CTL_REMOVE, count, records.data()) == 0);
    }

    for (const auto& pair : pairs) CHECK(pair.peer_sees_end(0));
}

TEST_CASE("REMOVE releases the file of a record that MODIFY has disarmed before",
          "[kevent][driver_port][K-102]") {
    driven_queue q(4);
    const std::uint32_t mask = GENERATE(KEVENT_MASK_EMPTY, KEVENT_SOCKET_ACCEPT);
    for (int round = 0; round < 20; ++round) {
        auto peers = connected_pair::sockets();
        ukevent one = record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV);
        q.add(one);
        one.event = mask;
        REQUIRE(kevent_ctl(q.number(), KEVENT_CTL_MODIFY, 1, &one) == 0);
        peers.close_local();
        q.remove(one);
        CHECK(peers.peer_sees_end(0));
    }
}

TEST_CASE("MODIFY of a driven queue keeps an event that came before it",
          "[kevent][driver_port][K-045]") {
    driven_queue q(8);
    const auto peers = connected_pair::sockets();
    const ukevent receives = record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV);
    for (int round = 0; round < 50; ++round) {
        q.add(receives);
        peers.send_from_peer();
        // No other event, which the driver would publish after the take().
        ukevent nothing = record(KEVENT_SOCKET, peers.local(), KEVENT_MASK_EMPTY);
        REQUIRE(kevent_ctl(q.number(), KEVENT_CTL_MODIFY, 1, &nothing) == 0);

        CHECK(q.take().ret_data[0] == KEVENT_SOCKET_RECV);
        q.remove(receives);
        peers.drain_local();
    }
    CHECK(q.filled() == 0);
}

TEST_CASE("nothing is written to the ring after kevent_close()", "[kevent][driver_port]") {
    driven_queue q(64);
    ukevent timer = record(KEVENT_TIMER, 0, KEVENT_TIMER_FIRED);
    for (std::uint32_t i = 1; i <= 32; ++i) {
        timer.id.raw[1] = 1'000'000 + i;
        q.add(timer);
    }
    CHECK(q.reaches(1));

    CHECK(kevent_close(q.number()) == 0);
    const std::vector<ukevent> before(&q.ring().event[0], &q.ring().event[64]);
    const auto begin = now();
    while (now() - begin < std::chrono::milliseconds(5)) std::this_thread::yield();  // 5 periods
    CHECK(std::memcmp(before.data(), &q.ring().event[0], 64 * sizeof(ukevent)) == 0);
    const kevring::fd other(::dup(0));
    CHECK(kevent_close(other.number()) == -EINVAL);
}

TEST_CASE("MODIFY tests again and watches for the new mask",
          "[kevent][driver_port][K-042][K-043][K-101]") {
    driven_queue q(8);
    const auto peers = connected_pair::sockets();
    ukevent one = record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV);
    q.add(one);
    peers.send_from_peer();
    q.take();
    CHECK(q.filled() == 0);

    q.modify(one);
    CHECK(q.take().ret_data[0] == KEVENT_SOCKET_RECV);
    one.event = KEVENT_SOCKET_SEND;
    q.modify(one);
    CHECK(q.take().ret_data[0] == KEVENT_SOCKET_SEND);
    one.event = KEVENT_SOCKET_RECV | KEVENT_SOCKET_SEND;
    q.modify(one);
    CHECK(q.take().ret_data[0] == one.event);
    peers.drain_local();
    q.modify(one);
    CHECK(q.take().ret_data[0] == KEVENT_SOCKET_SEND);
    peers.send_from_peer();
    CHECK(q.take().ret_data[0] == one.event);
}

TEST_CASE("the child of a fork cannot use a driven queue, and does not disturb it",
          "[kevent][driver_port][fork]") {
    driven_queue q(4);
    const auto peers = connected_pair::sockets();
    const auto pipe = connected_pair::pipe();
    q.add(record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV));
    ukevent timer = record(KEVENT_TIMER, 0, KEVENT_TIMER_FIRED);
    timer.id.raw[1] = 1'000'000;
    const pid_t child = ::fork();
    if (child == 0) {
        ukevent one = user_event(1);
        if (q.ctl(KEVENT_CTL_ADD, one) != -EINVAL) ::_exit(1);
        if (q.wait(4, 0, forever) != -EINVAL) ::_exit(2);
        if (q.commit(0, 0) != -EINVAL) ::_exit(3);
        if (kevent_close(q.number()) != -EINVAL) ::_exit(4);
        std::exit(0);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    REQUIRE(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);

    peers.send_from_peer();
    CHECK(q.take().type == KEVENT_SOCKET);
    q.add(timer);
    CHECK(q.take().type == KEVENT_TIMER);
    q.add(record(KEVENT_PIPE, pipe.local(), KEVENT_SOCKET_RECV));
    pipe.send_from_peer();
    while (q.take().type != KEVENT_PIPE) {}
}

TEST_CASE("an older registration that is removed leaves its event to a younger one",
          "[kevent][driver_port][K-097]") {
    driven_queue q(8);
    const auto peers = connected_pair::sockets();
    ukevent older = record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV);
    ukevent younger = older;
    younger.id.raw[1] = 1;
    for (int i = 0; i < 20; ++i) {
        q.add(older);
        q.add(younger);
        peers.send_from_peer();
        q.remove(older);
        // If the older one was published first, the younger one has nothing to report.
        const ukevent first = q.take();
        CHECK(is_done(first));
        q.remove(younger);
        while (q.filled() != 0) q.take();
        peers.drain_local();
    }
}

TEST_CASE("a thread adds and removes registrations while the driver publishes",
          "[kevent][driver_port][threads]") {
    driven_queue q(64);
    ring_consumers consumers(q, 64);
    std::atomic<bool> ended{false};
    std::thread consumer([&] {
        std::array<ukevent, 16> records;
        while (!ended) {
            const taken_records taken = consumers.take(records);
            for (unsigned i = 0; i < taken.count; ++i) {
                char bytes[64];
                // A record may be that of a registration which was removed after it.
                static_cast<void>(!::read(static_cast<int>(records[i].user[0]), bytes, 64));
            }
            if (taken.count == 0) q.wait(16, consumers.slot(), milliseconds(1));
        }
    });
    std::vector<connected_pair> pipes;
    for (int i = 0; i < 8; ++i) pipes.push_back(connected_pair::pipe());
    for (int round = 0; round < 200; ++round) {
        const connected_pair& pipe = pipes[static_cast<std::size_t>(round % 8)];
        ukevent one =
            record(KEVENT_PIPE, pipe.local(), KEVENT_SOCKET_RECV, KEVENT_REQ_ALWAYS_QUEUE);
        one.user[0] = static_cast<std::uint32_t>(pipe.local());
        q.add(one);
        pipe.send_from_peer();
        if (round % 3 == 0) q.modify(one);
        q.remove(one);
    }
    ended = true;
    consumer.join();
    for (int i = 0; i < 8; ++i) {
        pipes[static_cast<std::size_t>(i)].drain_local();
        ukevent one =
            record(KEVENT_PIPE, pipes[static_cast<std::size_t>(i)].local(), KEVENT_SOCKET_RECV);
        q.add(one);
    }
    const std::uint64_t before = consumers.taken_count();
    std::array<ukevent, 16> records;
    while (consumers.take(records).count != 0) {}
    for (const connected_pair& pipe : pipes) pipe.send_from_peer();
    const auto end = now() + half_of_test_timeout;
    while (consumers.taken_count() < before + 8 && now() < end) consumers.take(records);
    CHECK(consumers.taken_count() >= before + 8);
}
