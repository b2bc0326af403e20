// inherited_sockets.hpp: sockets that the process was started with, by systemd or by an upgrade.
#pragma once

#include <kevring/runtime/fd.hpp>

#include <string>
#include <vector>

namespace httpd {

/// A listening socket that was handed over.
struct inherited_socket {
    kevring::fd socket;
    std::string name;  // of its address in the old process; empty for a socket of systemd
};

struct inherited_sockets {
    std::vector<inherited_socket> sockets;
    kevring::fd ready;  // pipe to the old process, which waits for a byte; none: started otherwise
};

/// The sockets that systemd (sd_listen_fds(3)) or an old process has handed over. They are taken
/// once; children do not get them.
///
/// Errors     Throws std::runtime_error for a descriptor that is no listening socket.
/// Thread     Before others are started.
inherited_sockets take_inherited_sockets();

}  // namespace httpd
