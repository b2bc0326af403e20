// io_uring_check.hpp: a test if the system permits this process to use io_uring.
#pragma once

namespace httpd {

/// Tries io_uring_setup(2), io_uring_register(2) and io_uring_enter(2) on a ring of its own. A
/// seccomp filter or a sysctl may refuse each of them, and a loop that meets this while it serves
/// cannot continue.
///
/// Errors     Throws std::runtime_error that names the call and the remedy.
void check_io_uring();

}  // namespace httpd
