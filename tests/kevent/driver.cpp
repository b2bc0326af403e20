// driver.cpp: a queue with KEVENT_INIT_ASYNC: a thread of the library fills the ring as events
// complete.
#include "tests/kevent/kevent_fixture.hpp"
#include "tests/kevent/ring_consumers.hpp"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <memory>
#include <thread>
#include <vector>

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

using namespace kevent_test;

namespace {

/// A queue with a driver, and one consumer.
class driven_queue : public queue {
public:
    explicit driven_queue(unsigned slot_count)
        : queue(slot_count, KEVENT_INIT_ASYNC), slots_(slot_count) {}
    ~driven_queue() { kevent_close(number()); }  // first: the queue uses the memory

    /// True once the ring has `count` records that are not committed; false at the deadline. Makes
    /// no call of the library.
    bool reaches(unsigned count) {
        const auto end = now() + half_of_test_timeout;
        while (filled() < count && now() < end) std::this_thread::yield();
        return filled() >= count;
    }
    unsigned filled() { return (ring_kidx() + slots_ - position_ % slots_) % slots_; }
    /// The oldest record, which is committed.
    ukevent take() {
        REQUIRE(reaches(1));
        const ukevent record = ring().event[position_ % slots_];
        ++position_;
        REQUIRE(commit(position_ % slots_, position_ / slots_) == 1);
        return record;
    }
    unsigned uidx() const { return position_ % slots_; }

private:
    const unsigned slots_;
    unsigned position_ = 0;
};

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
