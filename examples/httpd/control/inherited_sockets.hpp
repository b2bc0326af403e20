// inherited_sockets.hpp: what the process was started with: sockets of systemd or of a
// predecessor, and whose it is to be.
#pragma once

#include <kevring/runtime/fd.hpp>

#include <string>
#include <vector>

namespace httpd {

/// A listening socket that was handed over.
struct inherited_socket {
    kevring::fd socket;
    std::string name;  // that of the predecessor's door; empty for those of systemd
};

/// What the process was started with.
struct inherited_sockets {
    std::vector<inherited_socket> sockets;
    kevring::fd ready;  // where a predecessor is told that this process serves; none: nobody waits
};

/// What systemd, or who does as it does (sd_listen_fds(3)), or a predecessor has handed over. It is
/// taken once; children do not see it.
///
/// Errors     Throws std::runtime_error for a descriptor that is no listening socket.
/// Thread     Before there are others.
inherited_sockets take_inherited_sockets();

/// Tells the service manager, if there is one, how the process is doing (sd_notify(3)).
void notify_service_manager(const std::string& state) noexcept;

/// Gives up root's rights for those of `user` and its groups, for good. Nothing where the process
/// is that user already.
///
/// Errors     Throws std::system_error or std::runtime_error; the process must end then.
/// Thread     Before there are others.
void drop_privileges(const std::string& user);

}  // namespace httpd
