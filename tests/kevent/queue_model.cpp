// The queue beside a model that says which events may be seen and which must be, in random runs:
// requests of all types, activity of what they watch, origins that go, threads that exit, and both
// doors. model/ has the model, a file for each kind of origin.
//
// A failure names its seed; KEVRING_TEST_SEED=<seed> repeats that run and no other: exactly, if the
// seed is odd; with an even one some timers are due soon and files are sent by another thread, and
// it depends on the time who is first.
// KEVRING_TEST_RUNS=<count> says how many seeds there are from there on.
#include "tests/kevent/model/checked_queue.hpp"

#include <cstdlib>

using kevent_model::checked_queue;

TEST_CASE("the queue does what a plain model of it does", "[kevent][model]") {
    const char* const chosen = std::getenv("KEVRING_TEST_SEED");
    const char* const runs = std::getenv("KEVRING_TEST_RUNS");
    const std::uint64_t first_seed = chosen != nullptr ? std::strtoull(chosen, nullptr, 0) : 1;
    const std::uint64_t run_count = runs != nullptr     ? std::strtoull(runs, nullptr, 0)
                                    : chosen != nullptr ? 1
                                                        : 500;
    std::size_t delivered_count = 0;
    for (std::uint64_t seed = first_seed; seed < first_seed + run_count; ++seed) {
        checked_queue run(seed);
        run.go();
        if (!run.failed_at().empty())
            FAIL(run.failed_at() << ", KEVRING_TEST_SEED=" << seed << "\n" << run.trace());
        delivered_count += run.delivered_count();
    }
    INFO(delivered_count << " events");
    CHECK(delivered_count > run_count * 20);
}
