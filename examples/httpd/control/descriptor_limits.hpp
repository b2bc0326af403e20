// descriptor_limits.hpp: divides the process's descriptors among clients and files.
//
// A client for which no descriptor would be left is answered with 503 instead of waiting in the
// backlog until others disconnect, and a cache full of open files keeps no client out.
#pragma once

#include "examples/httpd/config/settings.hpp"

namespace httpd {

/// The numbers that fit below a limit.
struct descriptor_budget {
    unsigned connections = 0;        // of all loops together
    unsigned cached_files = 0;       // entries of each loop's cache
    unsigned clients_rejecting = 0;  // at a time, by each loop
};

/// The part of `wanted` that fits if the process may have `limit` descriptors. The rest is for
/// files that are not cached, and for pipes.
descriptor_budget divide_descriptors(unsigned long limit, unsigned worker_count,
                                     const settings& wanted) noexcept;

/// Raises the process's soft limit to its hard limit, and lowers `wanted` to the numbers that fit.
///
/// Thread     Before others are started.
void apply_descriptor_limit(settings& wanted, unsigned worker_count) noexcept;

}  // namespace httpd
