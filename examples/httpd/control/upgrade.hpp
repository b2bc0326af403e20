// upgrade.hpp: a new process of the program, which takes over the listening sockets.
//
// It is spawned (posix_spawn(3)), not forked: between fork() and exec() a process with rings and
// threads must not do anything. It gets the sockets as systemd hands them over, LISTEN_FDS and
// LISTEN_FDNAMES, but with HTTPD_PREDECESSOR for LISTEN_PID, and one more descriptor, named
// "ready", to which it writes a byte when it serves.
#pragma once

#include <kevring/runtime/fd.hpp>

#include <string>
#include <vector>

#include <sys/types.h>

namespace httpd {

inline constexpr int first_inherited = 3;
inline constexpr const char* predecessor_variable = "HTTPD_PREDECESSOR";
inline constexpr const char* ready_name = "ready";

/// A socket for the new process.
struct handed_socket {
    kevring::fd_ref socket;
    std::string name;
};

/// Thread     One at a time.
class upgrade_process {
public:
    /// Starts the program in the file `program` with the arguments `argv`.
    ///
    /// Errors     Throws std::system_error if it cannot be started.
    upgrade_process(const std::string& program, char* const argv[],
                    const std::vector<handed_socket>& sockets);
    upgrade_process(const upgrade_process&) = delete;
    upgrade_process& operator=(const upgrade_process&) = delete;
    ~upgrade_process() = default;

    /// Readable once it serves, or has ended.
    kevring::fd_ref ready_fd() const noexcept { return ready_fd_; }
    /// Whether it has reported that it serves.
    bool serves() const noexcept;
    pid_t process() const noexcept { return process_; }
    /// Kills it, if it has not ended.
    ///
    /// Result     How it ended, for a message.
    std::string end() const;

private:
    kevring::fd ready_fd_;
    pid_t process_ = -1;
};

}  // namespace httpd
