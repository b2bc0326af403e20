// bench/load/load_run.hpp: the workers of a run, and what they did in the measured time.
//
// Counts and CPU times are taken at the same two moments, so that CPU time for each response holds
// for these responses, and for no connection that opened or closed around them.
#pragma once

#include "bench/load/latency_histogram.hpp"
#include "bench/load/load_options.hpp"
#include "bench/load/load_worker.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace kevring::bench {

struct load_snapshot {
    load_worker::clock::time_point time;
    std::uint64_t responses = 0;
    std::uint64_t bytes = 0;
    std::uint64_t aborts = 0;
    std::int64_t queued_bytes = 0;  // sent to a sink that has not received them
    std::chrono::nanoseconds server_cpu{0};
    std::chrono::nanoseconds own_cpu{0};
};

struct load_report {
    load_snapshot begin;
    load_snapshot end;
    latency_histogram latency;
    load_errors errors;
    std::uint64_t reopened = 0;
    std::uint64_t opened = 0;  // connections, also before and after the measured duration
    std::uint64_t enters = 0;
    std::uint64_t all_responses = 0;  // warm-up and draining included
    std::size_t idle_count = 0;
    std::size_t idle_held = 0;

    double seconds() const { return std::chrono::duration<double>(end.time - begin.time).count(); }
    double each_second(std::uint64_t count) const {
        return static_cast<double>(count) / std::max(seconds(), 1e-9);
    }
};

// Runs the load to its end: the duration, the count, or interrupt_load().
load_report run_load(const load_options& options, const std::vector<load_target>& targets);

// For a signal handler: the run ends now, and is reported as far as it got.
void interrupt_load() noexcept;

}  // namespace kevring::bench
