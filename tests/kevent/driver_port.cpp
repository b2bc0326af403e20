// driver_port.cpp: the port of a driver, without a queue.
#include "tests/kevent/kevent_fixture.hpp"

#include <kevring/kevent/ports/driver_port.hpp>

#include <array>
#include <atomic>
#include <mutex>

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
