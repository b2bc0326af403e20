// port_timer.cpp: every port that polls its own timer reports that it has expired, also if it expires
// between the queue's look at the clock and its sleep.
#include "tests/kevent/kevent_fixture.hpp"

#include <kevring/kevent/ports/epoll_port.hpp>
#include <kevring/kevent/ports/ring_port.hpp>
#include <kevring/runtime/kernel.hpp>

#include <algorithm>
#include <array>
#include <memory>

#include <poll.h>

using namespace kevent_test;
using kevring::detail::edge;
using kevring::detail::port;

namespace {

std::unique_ptr<port> make_port(bool on_ring) {
    if (!on_ring) return std::make_unique<kevring::detail::epoll_port>();
    auto made = std::make_unique<kevring::detail::ring_port>();
    REQUIRE(made->claim() == 0);
    return made;
}

bool reports_timer(port& carrier) {
    const auto end = std::chrono::steady_clock::now() + half_of_test_timeout;
    while (std::chrono::steady_clock::now() < end) {
        std::array<edge, 8> edges{};
        const int count = carrier.poll(edges);
        REQUIRE(count >= 0);
        const auto last = edges.begin() + count;
        if (std::any_of(edges.begin(), last,
                        [](const edge& each) { return each.tag == port::timer; }))
            return true;
        carrier.wait(&test_timeout);
    }
    return false;
}

}  // namespace

TEST_CASE("a port reports each time that its timer expires, whichever call sees it",
          "[kevent][ring_port][timer]") {
    const auto carrier = make_port(GENERATE(false, true));
    REQUIRE(carrier->create_timer() == 0);
    REQUIRE(carrier->flush() == 0);
    const std::int64_t past_ns = kevring::kernel::real().steady_ns();
    const connected_pair peers = connected_pair::sockets();
    std::uint64_t tag = port::first_free;
    for (int round = 0; round < 3; ++round) {
        REQUIRE(carrier->arm_timer(past_ns) == 0);  // the same deadline again
        CHECK(reports_timer(*carrier));
        // Changes that are submitted before a sleep take completions with them.
        REQUIRE(carrier->arm_timer(past_ns) == 0);
        REQUIRE(carrier->arm(peers.local(), POLLIN, tag) == 0);
        REQUIRE(carrier->flush() == 0);
        CHECK(reports_timer(*carrier));
        carrier->disarm(peers.local(), tag++);
    }
}
