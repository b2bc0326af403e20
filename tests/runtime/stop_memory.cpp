// Memory of requests with a std::stop_token.
#include "tests/support/allocations.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/run_on.hpp"

#include <kevring/runtime/detail/frame_pool.hpp>
#include <kevring/runtime/detail/stop_bridge.hpp>
#include <kevring/runtime/operations/nop.hpp>
#include <kevring/runtime/operations/receive.hpp>
#include <kevring/runtime/operations/send.hpp>
#include <kevring/runtime/ring.hpp>

#include <cstddef>
#include <cstdint>
#include <iostream>
#include <optional>
#include <stop_token>
#include <system_error>
#include <utility>
#include <vector>

using kevring::ring;
using kevring::task;

namespace {

// Holds the idle frames of the size of a stop_bridge, so that the next one needs memory.
class taken_frames {
public:
    taken_frames() {
        for (int count = 0; count < 1100; ++count)
            frames_.push_back(kevring::detail::allocate_frame(bytes));
    }
    taken_frames(const taken_frames&) = delete;
    taken_frames& operator=(const taken_frames&) = delete;
    ~taken_frames() {
        for (void* const frame : frames_) kevring::detail::free_frame(frame, bytes);
    }

private:
    static constexpr std::size_t bytes = sizeof(kevring::detail::stop_bridge);
    std::vector<void*> frames_;
};

}  // namespace

TEST_CASE("a request whose stop_token finds no memory fails, and the kernel is not asked",
          "[runtime][stop][memory]") {
    if (!allocations_are_counted()) {
        std::cout << "allocations are not counted: this build has an allocator of its own\n";
        return;
    }
    ring loop;
    std::stop_source source;
    std::optional<kevring::result<void>> refused;
    std::optional<kevring::result<void>> later;
    std::uint64_t requests = 0;

    run_on(loop, [&]() -> task<void> {
        {
            const taken_frames none_is_idle;
            kevring::nop_operation nop(loop, source.get_token());
            requests = loop.counters().requests;
            const failing_allocation next(0);
            refused = co_await nop;
            requests = loop.counters().requests - requests;
        }
        kevring::nop_operation nop(loop, source.get_token());
        later = co_await nop;
    });

    REQUIRE(refused);
    REQUIRE_FALSE(refused->has_value());
    CHECK(refused->error() == std::errc::not_enough_memory);
    CHECK(requests == 0);
    REQUIRE(later);
    CHECK(later->has_value());
}

// The frame of each connection holds its requests: the watch of a stop_token lies elsewhere.
TEST_CASE("a request is smaller than 256 bytes", "[runtime][memory]") {
    CHECK(sizeof(kevring::receive_operation) < 256);
    CHECK(sizeof(kevring::send_operation) < 256);
    CHECK(sizeof(kevring::detail::stop_bridge) > 100);
}
