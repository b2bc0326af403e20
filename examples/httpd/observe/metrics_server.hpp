// metrics_server.hpp: the counters of all loops, for Prometheus, at an address of their own.
#pragma once

#include "worker_report.hpp"

#include <kevring/net/listener.hpp>
#include <kevring/runtime/task.hpp>

#include <span>
#include <string>

namespace httpd {

/// The reports of all loops.
class report_source {
public:
    /// Asks each loop for a report and waits for all, at most a second: of a loop that is busy for
    /// longer, the previous report stays.
    virtual kevring::task<void> refresh() = 0;
    virtual const report_slot& slot(std::size_t index) const noexcept = 0;
    virtual std::size_t slot_count() const noexcept = 0;

protected:
    ~report_source() = default;
};

/// Answers GET and HEAD of /metrics (and of /-/metrics) until it is stopped: one request for each
/// connection, many connections at a time.
///
/// Lifetime   `reports` outlives the task.
kevring::task<void> serve_metrics(kevring::listener listener, report_source& reports);

/// The page, in the text format of Prometheus.
std::string metrics_page(const report_source& reports);

}  // namespace httpd
