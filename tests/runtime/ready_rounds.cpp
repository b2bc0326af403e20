// Coroutines that resume each other, on a loop without a timer: the rest of an iteration is skipped
// where it would do nothing.
#include "tests/support/catch.hpp"
#include "tests/support/run_on.hpp"

#include <kevring/runtime/operations/nop.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/run.hpp>
#include <kevring/runtime/sleep.hpp>
#include <kevring/runtime/submit.hpp>
#include <kevring/runtime/task_scope.hpp>

#include <chrono>
#include <cstdint>
#include <thread>

using kevring::ring;
using kevring::task;

namespace {

// Resumes in each iteration until `done`. Without a timer: one would make each iteration a whole one.
task<void> yield_until(const bool& done) {
    const auto end = std::chrono::steady_clock::now() + test_deadline;
    while (!done && std::chrono::steady_clock::now() < end) co_await kevring::yield();
}

}  // namespace

TEST_CASE("coroutines that always have work hold back neither the kernel nor timers nor threads",
          "[runtime][ring][threads]") {
    ring loop;
    bool completed = false;
    bool posted = false;
    bool fired = false;
    bool ended = false;
    std::uint64_t iterations = 0;

    auto body = [&]() -> task<void> {
        kevring::task_scope others(loop);
        others.spawn(yield_until(ended));
        auto complete = [&]() -> task<void> {
            kevring::nop_operation nop(loop);
            completed = (co_await nop).has_value();
        };
        others.spawn(complete());
        co_await yield_until(completed);

        std::jthread other([&] { kevring::post(loop, [&] { posted = true; }); });
        co_await yield_until(posted);

        auto fire = [&]() -> task<void> {
            fired = (co_await kevring::sleep_for(std::chrono::milliseconds(1))).has_value();
        };
        others.spawn(fire());
        co_await yield_until(fired);

        iterations = loop.counters().iterations;
        for (int count = 0; count < 100; ++count) co_await kevring::yield();
        iterations = loop.counters().iterations - iterations;
        ended = true;
        co_await others.join();
    };
    kevring::run(loop, body());

    CHECK(completed);
    CHECK(posted);
    CHECK(fired);
    CHECK(iterations == 100);  // a round is counted as an iteration
}
