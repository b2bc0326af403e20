// sandbox.hpp: access that the threads of the loops give up (landlock(7)).
//
// Each loop's thread gives up all files but those below the roots, for reading, and to bind and
// connect TCP sockets. The control thread stays unrestricted: it reads configurations, opens logs
// and starts upgrades, and gives the loops open descriptors (docs/design/0060-httpd-operations.md).
#pragma once

#include "examples/httpd/config/settings.hpp"

#include <kevring/runtime/fd.hpp>

#include <span>

namespace httpd {

/// The version of Landlock that the kernel supports; 0: none.
int landlock_version() noexcept;

/// Whether the loops are to be restricted. Prints a line if `automatic` continues without it.
///
/// Errors     Throws std::runtime_error for `enabled` if the kernel lacks support.
bool sandbox_enabled(sandbox_mode wanted);

/// Restricts the calling thread, and those that it starts, for good.
///
/// Errors     Throws std::system_error.
void restrict_thread(std::span<const kevring::fd> roots);

/// True if `directory` is `root` or below it.
bool is_within(kevring::fd_ref root, kevring::fd_ref directory) noexcept;

}  // namespace httpd
