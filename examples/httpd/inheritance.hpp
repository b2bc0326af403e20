// inheritance.hpp: what the process was started with: sockets of systemd, and whose it is to be.
#pragma once

#include <kevring/runtime/fd.hpp>

#include <string>
#include <vector>

namespace httpd {

/// The listening sockets that systemd, or who does as it does, has handed over (sd_listen_fds(3)).
/// They are taken once; children do not see them.
///
/// Thread     Before there are others.
std::vector<kevring::fd> take_inherited_sockets();

/// Gives up root's rights for those of `user` and its groups, for good. Nothing where the process
/// is that user already.
///
/// Errors     Throws std::system_error or std::runtime_error; the process must end then.
/// Thread     Before there are others.
void become(const std::string& user);

}  // namespace httpd
