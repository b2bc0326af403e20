// bench/load/main.cpp: kevring-load, a load for HTTP and echo servers that is cheaper than they
// are.
//
// It learns the length of each response, runs the workers for the time or the count asked for, and
// reports what came back, how long it took, and what CPU time it cost the server. Exit codes: 0, 1
// when there was no run, 2 for a wrong command line, 3 when there were errors in the run.
#include "bench/load/load_options.hpp"
#include "bench/load/load_report.hpp"
#include "bench/load/load_run.hpp"
#include "bench/load/probe.hpp"

#include <sys/resource.h>

#include <csignal>
#include <cstdio>
#include <exception>
#include <optional>

namespace {

using namespace kevring::bench;

void raise_fd_limit(const load_options& options) {
    rlimit files{};
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    // Twice, since a connection's successor may be there before its close has been done.
    const rlim_t wanted = 2 * rlim_t{options.connections} + options.idle + 64;
    if (files.rlim_cur < wanted)
        std::fprintf(stderr, "the limit of %llu descriptors may be too low for this load\n",
                     static_cast<unsigned long long>(files.rlim_cur));
}

}  // namespace

int main(int argc, char** argv) {
    const load_options options = parse_load_options(argc, argv);
    for (const int number : {SIGINT, SIGTERM}) std::signal(number, [](int) { interrupt_load(); });
    raise_fd_limit(options);
    try {
        const auto targets = learn_targets(options);
        std::optional<idle_connections> idle;
        if (options.idle > 0) idle.emplace(options, targets.front());
        load_report made = run_load(options, targets);
        if (idle) {
            made.idle_count = idle->count();
            made.idle_held = idle->held();
        }
        if (options.json != "-") print_report(options, made);
        if (!options.json.empty() && !write_json(options, made)) {
            std::perror(options.json.c_str());
            return 1;
        }
        return made.errors.total() == 0 ? 0 : 3;
    } catch (const std::exception& failure) {
        std::fprintf(stderr, "kevring-load: %s\n", failure.what());
        return 1;
    }
}
