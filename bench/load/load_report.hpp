// bench/load/load_report.hpp: a run in words, and as JSON.
#pragma once

#include "bench/load/load_options.hpp"
#include "bench/load/load_run.hpp"

namespace kevring::bench {

void print_report(const load_options& options, const load_report& report);

// To options.json; false when it could not be written, with errno.
bool write_json(const load_options& options, const load_report& report);

}  // namespace kevring::bench
