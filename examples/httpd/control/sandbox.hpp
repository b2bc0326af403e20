// sandbox.hpp: what a loop can no longer do, whatever it is made to do (landlock(7)).
//
// Each loop's thread gives up all files but those below the root, and those for reading only, and
// to bind and connect TCP sockets. What it needs else it is given open, by the control loop, whose
// thread stays free: it reads configurations again and starts successors
// (docs/design/0060-httpd-operations.md).
#pragma once

#include "examples/httpd/config/settings.hpp"

#include <kevring/runtime/fd.hpp>

namespace httpd {

/// The version of Landlock that the kernel offers; 0: none.
int landlock_version() noexcept;

/// Whether the loops are to be confined; says so where the kernel cannot do what would be good.
///
/// Errors     Throws std::runtime_error for `on` where the kernel has no Landlock.
bool sandbox_enabled(sandbox_mode wanted);

/// Confines the calling thread, and what it starts, for good.
///
/// Errors     Throws std::system_error.
void restrict_thread(kevring::fd_ref root);

/// True if `folder` is `root` or lies below it.
bool is_within(kevring::fd_ref root, kevring::fd_ref folder) noexcept;

}  // namespace httpd
