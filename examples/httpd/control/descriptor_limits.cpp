#include "descriptor_limits.hpp"

#include <algorithm>
#include <climits>

#include <sys/resource.h>

namespace httpd {

descriptor_budget divide_descriptors(unsigned long limit, unsigned worker_count,
                                     const settings& wanted) noexcept {
    // Rings, listeners, signals, logs, the metrics listener and its clients.
    const unsigned long own = 24 + 8UL * worker_count + wanted.hosts.size() * (1UL + worker_count);
    const unsigned long free = std::min<unsigned long>(limit > own ? limit - own : 0, INT_MAX);
    // Descriptors of one entry, at most.
    bool has_codings = wanted.site.precompressed || wanted.site.compress;
    for (const host_settings& each : wanted.hosts)
        has_codings |= each.site.precompressed || each.site.compress;
    const unsigned long each_entry = has_codings ? 4 : 1;
    const unsigned long files_wanted = each_entry * worker_count * wanted.open_file_count_max;
    const unsigned long kept = std::max(free / 16, std::min(free / 8, 64UL));
    // Files get a quarter; beyond the descriptors for many clients, as many as clients.
    constexpr unsigned long crowd = 8'192;
    const unsigned long surplus = free - kept > crowd ? free - kept - crowd : 0;
    const unsigned long files =
        std::min(files_wanted, std::max(free / 4, std::min(surplus, (free - kept) / 2)));
    const unsigned long connections =
        std::min<unsigned long>(wanted.connection_count_max, free - files - kept);
    descriptor_budget shares;
    shares.connections = static_cast<unsigned>(std::max(1UL, connections));
    shares.cached_files =
        static_cast<unsigned>(std::max(1UL, files / each_entry / std::max(1U, worker_count)));
    // A client beyond these is closed without a response.
    shares.clients_rejecting =
        static_cast<unsigned>(std::clamp(kept / 2 / std::max(1U, worker_count), 1UL, 64UL));
    return shares;
}

void apply_descriptor_limit(settings& wanted, unsigned worker_count) noexcept {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    if (limit.rlim_cur != limit.rlim_max) {
        rlimit raised = limit;
        raised.rlim_cur = limit.rlim_max;
        if (::setrlimit(RLIMIT_NOFILE, &raised) == 0) limit = raised;
    }
    const descriptor_budget shares = divide_descriptors(limit.rlim_cur, worker_count, wanted);
    wanted.connection_count_max = shares.connections;
    wanted.open_file_count_max = shares.cached_files;
    wanted.clients_rejecting_max = shares.clients_rejecting;
}

}  // namespace httpd
