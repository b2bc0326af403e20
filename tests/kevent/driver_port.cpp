// driver_port.cpp: the port of a driver, without a queue.
#include "tests/kevent/kevent_fixture.hpp"

#include <kevring/kevent/ports/driver_port.hpp>
#include <kevring/runtime/kernel.hpp>

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

using namespace kevent_test;

namespace {

/// Fetches edges as a queue does: two batches each time that it is called.
class edge_counter {
public:
    explicit edge_counter(kevring::detail::driver_port& port) : port_(port) {}

    static void on_edges(void* context) noexcept {
        auto& self = *static_cast<edge_counter*>(context);
        const std::lock_guard held(self.queue_lock);
        std::array<kevring::detail::edge, kevring::detail::port::batch_max> edges;
        for (int round = 0; round < 2; ++round) {
            const int found = self.port_.poll(edges);
            if (found > 0) self.count += found;
        }
    }

    std::mutex queue_lock;
    std::atomic<int> count{0};

private:
    kevring::detail::driver_port& port_;
};

/// One deadline of a queue: it sets the port's timer again if that has expired too early.
class deadline_of_queue {
public:
    explicit deadline_of_queue(kevring::detail::driver_port& port) : port_(port) {}

    static void on_edges(void* context) noexcept {
        auto& self = *static_cast<deadline_of_queue*>(context);
        const std::lock_guard held(self.queue_lock);
        std::array<kevring::detail::edge, kevring::detail::port::batch_max> edges;
        const int found = self.port_.poll(edges);
        for (int i = 0; i < found; ++i) {
            if (edges[static_cast<std::size_t>(i)].tag != kevring::detail::port::timer) continue;
            if (kevring::kernel::real().steady_ns() < self.deadline_ns_)
                self.port_.arm_timer(self.deadline_ns_);
            else
                self.has_passed = true;
        }
    }
    /// Under queue_lock.
    void set(std::int64_t deadline_ns) {
        deadline_ns_ = deadline_ns;
        has_passed = false;
        port_.arm_timer(deadline_ns);
    }

    std::mutex queue_lock;
    std::atomic<bool> has_passed{false};

private:
    kevring::detail::driver_port& port_;
    std::int64_t deadline_ns_ = 0;
};

}  // namespace

TEST_CASE("a driver fetches all that is reported again, without a further event",
          "[kevent][driver_port][threads]") {
    constexpr int wanted = 1000;
    constexpr std::uint64_t tag = kevring::detail::port::first_free;
    const connected_pair peers = connected_pair::sockets();
    peers.send_from_peer();
    kevring::detail::driver_port port;
    edge_counter counter(port);
    port.start({&edge_counter::on_edges, &counter});
    {
        const std::lock_guard held(counter.queue_lock);
        REQUIRE(port.arm(peers.local(), POLLIN, tag) == 0);
        for (int i = 0; i < wanted; ++i) port.report_again(peers.local(), POLLIN, tag);
    }

    const auto end = now() + half_of_test_timeout;
    while (counter.count < wanted && now() < end) std::this_thread::yield();

    CHECK(counter.count >= wanted);
    port.stop();
    port.disarm(peers.local(), tag);
}

TEST_CASE("a deadline that becomes earlier while the driver reads its mail is kept",
          "[kevent][driver_port][threads]") {
    constexpr std::int64_t ms = 1'000'000;
    constexpr int round_count = 24;
    constexpr int watched_count = 200;
    constexpr std::uint64_t first_tag = kevring::detail::port::first_free;
    const connected_pair peers = connected_pair::sockets();
    kevring::detail::driver_port port;
    deadline_of_queue timer(port);
    port.start({&deadline_of_queue::on_edges, &timer});
    REQUIRE(port.create_timer() == 0);

    for (int round = 0; round < round_count; ++round) {
        const std::int64_t begin_ns = kevring::kernel::real().steady_ns();
        const auto set = [&](std::int64_t deadline_ns) {
            const std::lock_guard held(timer.queue_lock);
            timer.set(deadline_ns);
        };
        const auto sleep_until = [](std::int64_t time_ns) {
            while (kevring::kernel::real().steady_ns() < time_ns) {}
        };
        {
            // The driver has much to carry out before it sets its alarm.
            const std::lock_guard held(timer.queue_lock);
            for (std::uint64_t i = 0; i < watched_count; ++i)
                REQUIRE(port.arm(peers.local(), POLLIN, first_tag + i) == 0);
            timer.set(begin_ns + 3 * ms);
        }
        // Between the driver's reading of the first deadline and its setting of the alarm, and then
        // before it reads the second one.
        sleep_until(begin_ns + round % 8 * ms / 16);
        set(begin_ns + 1'000'000 * ms);
        sleep_until(begin_ns + round % 8 * ms / 16 + round / 8 * ms / 6);
        set(begin_ns + 4 * ms);

        const auto end = now() + half_of_test_timeout;
        while (!timer.has_passed && now() < end) std::this_thread::yield();
        REQUIRE(timer.has_passed);
        const std::lock_guard held(timer.queue_lock);
        for (std::uint64_t i = 0; i < watched_count; ++i) port.disarm(peers.local(), first_tag + i);
    }
    port.stop();
}
