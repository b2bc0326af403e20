// listener.hpp: a bound socket that gives connections.
#pragma once

#include <kevring/net/endpoint.hpp>
#include <kevring/net/socket.hpp>
#include <kevring/net/socket_options.hpp>
#include <kevring/runtime/detail/fetched_item.hpp>
#include <kevring/runtime/operations/accept.hpp>
#include <kevring/runtime/task.hpp>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

namespace kevring {

/// The longest wait for an address that a killed process still holds.
inline constexpr std::chrono::milliseconds address_wait_max{100};

struct listener_options {
    /// Connections that wait in the kernel; bounded by net.core.somaxconn.
    int backlog = 4096;
    /// Lets each loop have a listener of its own on one address; the kernel spreads connections
    /// over them.
    bool reuse_port = false;
    /// For an IPv6 address: leaves IPv4 to another listener.
    bool ipv6_only = false;
    /// How long to repeat a bind that finds the address in use, at most address_wait_max; 0 reports
    /// address_in_use at once. After SIGKILL the kernel holds the sockets of a process's rings 5 to
    /// 10 ms longer than the process, so an immediate restart needs this.
    ///
    /// It blocks the calling thread, and is meant for the start of a program: on a thread that
    /// drives a ring it has no effect. There, await listener::bind_when_free().
    std::chrono::milliseconds address_wait{0};
    /// Options that each accepted connection inherits, without a system call for each.
    socket_options accepted{.no_delay = true};
};

/// A socket that is bound and listens, for programs that bind before their loops begin.
///
/// Errors     As listener::bind(). A Unix path is the caller's to remove.
result<fd> open_listening_socket(const endpoint& local, const listener_options& options = {});

/// Lifetime   Within the life of its ring. The destructor removes the Unix path that bind()
/// created,
///            if the path still is that file: not one that another server has created since, and
///            not in a child process.
/// Thread     The ring's own.
class listener {
public:
    /// Binds and listens.
    ///
    /// Errors     address_in_use; address_not_available; permission_denied for a port below 1024;
    ///            else those of bind(2) and listen(2). A Unix path without a listening process is
    ///            taken over.
    static result<listener> bind(ring& loop, const endpoint& local,
                                 const listener_options& options = {});
    /// The same on the ring that this thread drives.
    static result<listener> bind(const endpoint& local, const listener_options& options = {}) {
        KEVRING_ASSERT(ring::current() != nullptr,
                       "listener::bind() on a thread that drives no ring; pass the ring as the "
                       "first argument");
        return bind(*ring::current(), local, options);
    }
    /// Binds and listens, and repeats that every millisecond while the address is in use, for at
    /// most address_wait_max: for a restart right after the predecessor was killed. The loop
    /// continues in the meantime; `options.address_wait` has no effect.
    ///
    /// Errors     Those of bind(); operation_canceled and timed_out by the scope around it.
    static task<result<listener>> bind_when_free(ring& loop, endpoint local,
                                                 listener_options options = {});
    /// Takes over a socket that listens already, as from systemd or a predecessor.
    listener(ring& loop, fd listening);
    listener(listener&& other) noexcept = default;
    listener& operator=(listener&&) = delete;
    ~listener();

    /// The next connection.
    ///
    /// Errors     operation_canceled and timed_out by the scope around it; then no connection is
    ///            lost. When descriptors or memory have run out it waits, longer each time up to a
    ///            second, and tries again: the connections wait in the kernel. A connection that
    ///            was reset before it was accepted is skipped.
    /// In flight  One accept() at a time; another ends with connection_already_in_progress.
    /// Lost items  None: the connection that a stopped accept() or a loser of when_any() would have
    ///            returned is returned by the next one.
    [[nodiscard]] detail::fetched_item<socket> accept() { return {accepted_, fetch()}; }

    /// Accepts no more. accept() gives the connections that were accepted before that, and then
    /// operation_canceled. Others wait in the kernel for another process that shares the socket;
    /// the kernel resets them when the last process closes it.
    void stop_accepting() noexcept;

    /// Where it listens: with the port that the kernel chose for port 0.
    result<endpoint> local() const noexcept;
    fd_ref native() const noexcept { return fd_; }
    /// How often accept() had to wait for descriptors or memory.
    std::uint64_t exhausted_count() const noexcept { return exhausted_count_.get(); }
    /// The connections that accept() has returned or holds for its next call.
    ///
    /// Thread     Any, without a lock.
    std::uint64_t accepted_count() const noexcept { return accepted_count_.get(); }

private:
    /// The file of a Unix socket, and the process that created it.
    struct bound_path {
        std::string name;
        std::uint64_t device = 0;
        std::uint64_t inode = 0;
        int process = 0;
    };

    task<result<void>> fetch();

    ring* loop_;
    fd fd_;
    bound_path bound_path_;
    std::optional<accept_stream> connections_;
    std::optional<socket> accepted_;  // by an accept() that was left before it took it
    detail::shared_counter exhausted_count_;
    detail::shared_counter accepted_count_;
};

}  // namespace kevring
