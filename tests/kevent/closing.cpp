// closing.cpp: kevent_close() while other threads are in calls on the queue.
#include "tests/kevent/kevent_fixture.hpp"
#include "tests/kevent/observed_owner.hpp"

#include <atomic>
#include <cstddef>
#include <memory>
#include <thread>
#include <vector>

#include <sys/mman.h>

using namespace kevent_test;

namespace {

constexpr unsigned slot_count = 4;

/// A ring in memory that take_away() makes inaccessible: a thread that uses it afterwards ends the
/// process by SIGSEGV.
class mapped_ring {
public:
    mapped_ring()
        : memory_(
              ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {
        REQUIRE(memory_ != MAP_FAILED);
    }
    mapped_ring(const mapped_ring&) = delete;
    ~mapped_ring() { ::munmap(memory_, size); }

    kevent_ring* get() const { return static_cast<kevent_ring*>(memory_); }
    void take_away() const { REQUIRE(::mprotect(memory_, size, PROT_NONE) == 0); }

private:
    static constexpr std::size_t size = 4096;
    void* const memory_;
};

struct closing_port {
    const char* name;
    unsigned flags;
};

bool sleeps(const observed_owner& waiter, const closing_port& port) {
    const bool is_ring = (port.flags & KEVENT_INIT_ONE_THREAD) != 0 ||
                         ((port.flags & KEVENT_INIT_ASYNC) == 0 && is_of_one_thread());
    return is_ring ? waiter.sleeps_in_enter() : waiter.sleeps_in_call();
}

closing_port any_port() {
    return GENERATE(closing_port{"default", 0}, closing_port{"ring", KEVENT_INIT_ONE_THREAD},
                    closing_port{"driver", KEVENT_INIT_ASYNC});
}

}  // namespace

TEST_CASE("kevent_close ends a call that waits, and no thread uses the ring afterwards",
          "[kevent][closing][K-077]") {
    const closing_port port = any_port();
    CAPTURE(port.name);
    const bool waits_for_ring = GENERATE(true, false);
    const mapped_ring ring;
    const auto peers = connected_pair::sockets();
    const int number = kevent_init(ring.get(), slot_count, port.flags);
    REQUIRE(number >= 0);
    std::atomic<int> result{0};
    observed_owner waiter([&] {
        ukevent one = record(KEVENT_SOCKET, peers.local(), KEVENT_SOCKET_RECV);
        ukevent got[2];
        if (kevent_ctl(number, KEVENT_CTL_ADD, 1, &one) != 0) return;
        result = waits_for_ring ? kevent_wait(number, slot_count, 0, test_timeout, 0)
                                : kevent_get_events(number, 1, 2, test_timeout, got, 0);
    });
    REQUIRE(sleeps(waiter, port));

    REQUIRE(kevent_close(number) == 0);
    ring.take_away();
    peers.send_from_peer();

    waiter.join();
    CHECK(result == -EBADF);
}

TEST_CASE("kevent_close ends all calls that wait on a queue", "[kevent][many-threads][closing]") {
    constexpr int waiter_count = 2;
    const closing_port port =
        GENERATE(closing_port{"default", 0}, closing_port{"driver", KEVENT_INIT_ASYNC});
    CAPTURE(port.name);
    const mapped_ring ring;
    const int number = kevent_init(ring.get(), slot_count, port.flags);
    REQUIRE(number >= 0);
    ukevent one = user_event(1);
    REQUIRE(kevent_ctl(number, KEVENT_CTL_ADD, 1, &one) == 0);
    std::atomic<int> failed_count{0};
    std::vector<std::unique_ptr<observed_owner>> waiters;
    for (int i = 0; i < waiter_count; ++i)
        waiters.push_back(std::make_unique<observed_owner>([&] {
            ukevent got[3];
            if (kevent_get_events(number, 3, 3, test_timeout, got, 0) == -EBADF) ++failed_count;
        }));
    for (const auto& waiter : waiters) REQUIRE(waiter->sleeps_in_call());
    REQUIRE(kevent_ctl(number, KEVENT_CTL_READY, 1, &one) == 1);  // fewer than they wait for

    REQUIRE(kevent_close(number) == 0);
    ring.take_away();

    for (const auto& waiter : waiters) waiter->join();
    CHECK(failed_count == waiter_count);
}

TEST_CASE("kevent_close waits for a thread that takes or commits records",
          "[kevent][many-threads][closing][threads]") {
    for (int round = 0; round < 20; ++round) {
        const mapped_ring ring;
        const int number = kevent_init(ring.get(), slot_count, KEVENT_INIT_ASYNC);
        REQUIRE(number >= 0);
        ukevent one = user_event(1);
        REQUIRE(kevent_ctl(number, KEVENT_CTL_ADD, 1, &one) == 0);
        std::atomic<int> taken{0};
        std::thread consumer([&] {
            ukevent got{};
            int result = 0;
            // The number may belong to another queue only after the join.
            while ((result = kevent_get_events(number, 0, 1, no_wait, &got, 0)) >= 0) {
                taken += result;
                ukevent again = user_event(1);
                kevent_ctl(number, KEVENT_CTL_READY, 1, &again);
            }
        });
        while (taken < round) std::this_thread::yield();

        REQUIRE(kevent_close(number) == 0);
        ring.take_away();

        consumer.join();
    }
}
