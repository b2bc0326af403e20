// features.hpp: optional features of the running kernel.
#pragma once

#include <kevring/runtime/detail/language.hpp>

#include <cstdint>
#include <string>

namespace kevring {

/// Features that a kernel may lack, each with a fallback that Linux 6.1 has. Probed once, by use.
///
/// The environment variable KEVRING_WITHOUT takes names away (`KEVRING_WITHOUT=send_message,...`),
/// to test the fallbacks or to avoid a fault of a kernel.
struct features {
    bool send_message = false;   // wake another ring without a ring (6.13); else an eventfd
    bool truncate = false;       // a request that truncates a file (6.9); else a thread of a pool
    bool no_iowait = false;      // a sleeping loop does not count as waiting for a disk (6.15)
    bool epoll_control = false;  // a request in place of epoll_ctl(2) (5.6); else that call

    /// Thread     Any; found out at the first call.
    static const features& get() noexcept;
};

/// Why a ring could not be made, and what allows it: for an errno of io_uring_setup(2).
std::string explain_ring_failure(int error_number);

/// Kernel, features, limits and the paths chosen, as lines of text for a log or a bug report.
std::string describe();

}  // namespace kevring
