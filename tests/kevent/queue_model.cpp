// queue_model.cpp: the queue compared, in random runs, with a model that knows which events may and
// which must be reported: requests of all types, activity of their origins, origins that close,
// threads that exit, and both ways of collecting. model/ has the model, a file for each kind of
// origin.
//
// A failure prints its seed; KEVRING_TEST_SEED=<seed> repeats that run only. A run with an odd seed
// repeats exactly; with an even seed some timers are due soon and another thread sends files, so
// the order depends on time. KEVRING_TEST_RUNS=<count> sets the number of seeds.
#include "tests/kevent/model/checked_queue.hpp"

#include <cstdlib>

using kevent_model::checked_queue;

TEST_CASE("the queue behaves like a plain model of it", "[kevent][model]") {
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
