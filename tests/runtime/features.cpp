// features.cpp: features that KEVRING_WITHOUT takes away are not used.
#include "tests/support/catch.hpp"
#include "tests/support/run_on.hpp"

#include <kevring/runtime/detail/uring.hpp>
#include <kevring/runtime/features.hpp>
#include <kevring/runtime/kernel.hpp>
#include <kevring/runtime/sleep.hpp>

#include <chrono>
#include <cstdlib>
#include <string_view>

using namespace kevring;
using namespace std::chrono_literals;

namespace {

class flag_recorder final : public kernel {
public:
    int ring_enter(io_uring& ring, unsigned submit_count, unsigned wait_count, unsigned flags,
                   const __kernel_timespec* timeout) noexcept override {
        all_flags |= flags;
        return kernel::ring_enter(ring, submit_count, wait_count, flags, timeout);
    }
    unsigned all_flags = 0;
};

}  // namespace

TEST_CASE("a feature that KEVRING_WITHOUT names is neither reported nor used",
          "[runtime][features]") {
    const char* const taken_away = std::getenv("KEVRING_WITHOUT");
    const bool is_without =
        taken_away != nullptr &&
        std::string_view(taken_away).find("no_iowait") != std::string_view::npos;
    flag_recorder system;
    ring loop({}, system);
    auto body = [&]() -> task<void> {
        const auto slept = co_await sleep_for(1ms);
        CHECK(slept.has_value());
    };

    run_on(loop, body);

    CHECK((system.all_flags & detail::enter_no_iowait) ==
          (features::get().no_iowait ? detail::enter_no_iowait : 0));
    if (is_without) CHECK_FALSE(features::get().no_iowait);
}
