// interruptions.cpp: early ends of a wait: a signal handler ends it, task work of io_uring does
// not.
#include "tests/kevent/kevent_fixture.hpp"

#include <kevring/runtime/detail/uring.hpp>
#include <kevring/runtime/ring.hpp>

#include <atomic>
#include <csignal>
#include <optional>
#include <thread>

#include <pthread.h>
#include <sys/eventfd.h>

using namespace kevent_test;
using namespace std::chrono_literals;

namespace {

// A ring of the application, with a request that completes through task work on its thread each
// time another thread calls trigger().
class application_ring {
public:
    explicit application_ring(unsigned flags) {
        REQUIRE(io_uring_queue_init(256, &ring_, flags) == 0);
        io_uring_sqe* const entry = io_uring_get_sqe(&ring_);
        io_uring_prep_poll_multishot(entry, counter_.number(), POLLIN);
        REQUIRE(io_uring_submit(&ring_) == 1);
    }
    application_ring(const application_ring&) = delete;
    ~application_ring() { io_uring_queue_exit(&ring_); }

    void trigger() const {
        const std::uint64_t one = 1;
        KEVRING_ASSERT(::write(counter_.number(), &one, sizeof one) == sizeof one,
                       "test setup: a short write; use a counter with room");
    }

private:
    const kevring::fd counter_{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    io_uring ring_{};
};

int get_none(const queue& q, timespec timeout) {
    ukevent record{};
    return kevent_get_events(q.number(), 1, 1, timeout, &record, 0);
}

}  // namespace

TEST_CASE("work that io_uring does on a thread does not end its wait",
          "[kevent][interruptions][K-058][K-067]") {
    const unsigned flags = GENERATE(0u, IORING_SETUP_COOP_TASKRUN);
    queue q;
    std::atomic<const application_ring*> ring{nullptr};
    std::atomic<bool> done{false};
    int count = -1;
    std::chrono::nanoseconds took{0};
    std::thread waiter([&] {
        const application_ring mine(flags);
        ring = &mine;
        const auto begin = now();
        count = get_none(q, milliseconds(60));
        took = now() - begin;
        ring = nullptr;
        done = true;
        // The ring is destroyed only after the other thread has stopped calling trigger().
        while (done) std::this_thread::yield();
    });

    while (!done) {
        if (const application_ring* const application = ring.load()) application->trigger();
        std::this_thread::sleep_for(1ms);
    }
    done = false;
    waiter.join();

    CHECK(count == 0);
    CHECK(took >= 60ms);
}

TEST_CASE("a signal handler ends the wait of a thread that has a ring",
          "[kevent][interruptions][K-067]") {
    queue q;
    const auto wait = [&] {
        const application_ring mine(0);
        return get_none(q, test_timeout);
    };

    const int result = interrupted(wait, GENERATE(0, SA_RESTART));

    CHECK(result == 0);
}

// The teardown of a ring continues after its destructor, as task work on its thread.
TEST_CASE("the end of a ring does not end a wait that comes after it",
          "[kevent][interruptions][K-058]") {
    queue q;
    CHECK(get_none(q, milliseconds(1)) == 0);  // the thread has waited without a ring before
    for (int i = 0; i < 20; ++i) {
        {
            const kevring::ring loop;
        }
        const auto begin = now();
        CHECK(get_none(q, milliseconds(5)) == 0);
        CHECK(now() - begin >= 5ms);
    }
}

TEST_CASE("an event ends the wait of a thread that has a ring, of one or of several",
          "[kevent][many-threads][interruptions]") {
    const unsigned ringless_count = GENERATE(0u, 2u);
    constexpr std::uint64_t event_count = 200;
    queue q;
    for (std::uint64_t i = 0; i < event_count; ++i) q.add(user_event(i, KEVENT_REQ_ONESHOT));
    std::atomic<std::uint64_t> taken{0};
    std::vector<std::thread> waiters;
    for (unsigned i = 0; i < ringless_count + 2; ++i) {
        waiters.emplace_back([&, has_ring = i >= ringless_count] {
            std::optional<kevring::ring> loop;
            if (has_ring) loop.emplace();
            while (taken < event_count) {
                ukevent record{};
                if (kevent_get_events(q.number(), 1, 1, milliseconds(200), &record, 0) == 1)
                    ++taken;
            }
        });
    }

    for (std::uint64_t i = 0; i < event_count; ++i) {
        CHECK(q.ready(user_event(i)) == 1);
        if (i % 16 == 0) std::this_thread::yield();
    }
    for (std::thread& waiter : waiters) waiter.join();

    CHECK(taken == event_count);
}
