// init_process.hpp: the server as process 1 of a container, whose end would end the container.
#pragma once

namespace httpd {

/// True for process 1 of a PID namespace.
bool is_init_process() noexcept;

/// Sends a signal to all descendants.
void forward_signal(int number) noexcept;

/// Waits for all children, those that are adopted included, and forwards SIGTERM, SIGINT, SIGHUP and
/// SIGUSR2 to all descendants in the meantime. These signals are blocked.
///
/// Result     The exit status of the last child; 128 and the signal's number if one ended it.
/// Thread     The only one.
int supervise_children();

}  // namespace httpd
