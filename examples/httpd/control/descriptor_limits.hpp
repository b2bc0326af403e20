// descriptor_limits.hpp: shares the process's descriptors out between clients and files.
//
// Clients that nobody would have a descriptor left for are told so (503) instead of waiting unheard
// until others leave, and a cache full of open files keeps no client out.
#pragma once

#include "examples/httpd/config/settings.hpp"

namespace httpd {

/// How many of each fit below a limit.
struct descriptor_budget {
    unsigned connections = 0;        // of all loops together
    unsigned cached_files = 0;       // entries of each loop's cache
    unsigned clients_rejecting = 0;  // at a time, by each loop
};

/// What of `wanted` fits when the process may have `limit` descriptors. What is not given away is
/// for files that are not cached and for pipes.
descriptor_budget divide_descriptors(unsigned long limit, unsigned worker_count,
                                     const settings& wanted) noexcept;

/// Raises the process's limit to what it is allowed, and `wanted` to no more than what fits.
///
/// Thread     Before there are others.
void apply_descriptor_limit(settings& wanted, unsigned worker_count) noexcept;

}  // namespace httpd
