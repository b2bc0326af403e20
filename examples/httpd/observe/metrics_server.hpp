// metrics_server.hpp: the numbers of all loops, for Prometheus, at an address of their own.
#pragma once

#include "worker_report.hpp"

#include <kevring/net/listener.hpp>
#include <kevring/runtime/task.hpp>

#include <span>
#include <string>

namespace httpd {

/// Where the reports come from.
class report_source {
public:
    /// Asks each loop for a report, and waits until all are there, a second at most: a loop that is
    /// busy for longer is seen as it was.
    virtual kevring::task<void> refresh() = 0;
    virtual const report_slot& slot(std::size_t index) const noexcept = 0;
    virtual std::size_t slot_count() const noexcept = 0;

protected:
    ~report_source() = default;
};

/// Answers GET /-/metrics until it is stopped, one request on each connection, one after another.
///
/// Lifetime   `from` outlives the task.
kevring::task<void> serve_metrics(kevring::listener listener, report_source& from);

/// The page.
std::string metrics_page(const report_source& from);

}  // namespace httpd
