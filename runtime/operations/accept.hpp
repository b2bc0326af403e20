// accept.hpp: connections out of a listening socket, one by one or as a stream.
#pragma once

#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/multishot.hpp>
#include <kevring/runtime/operation.hpp>

#include <cstdint>
#include <vector>

struct sockaddr;

namespace kevring {

/// Accepts one connection.
///
/// Result     The connected socket, non-blocking for others' calls and closed on exec.
/// Errors     operation_canceled, timed_out; else those of accept(2).
/// Lifetime   `listener` stays open, and the peer's address and its length, if given, stay valid
///            until the await ends.
/// Kernel     IORING_OP_ACCEPT, Linux 5.5.
class [[nodiscard]] accept_operation final : public operation {
public:
    accept_operation(ring& loop, fd_ref listener, sockaddr* peer = nullptr,
                     unsigned* peer_bytes = nullptr, std::stop_token stop = {}) noexcept
        : operation(loop, std::move(stop)),
          listener_(listener),
          peer_(peer),
          peer_bytes_(peer_bytes) {}

    /// The socket is the caller's from here on.
    [[nodiscard]] result<fd> await_resume() noexcept {
        if (res() < 0) return failure();
        return fd(res());
    }
    void prepare(io_uring_sqe& sqe) noexcept override;

private:
    fd_ref listener_;
    sockaddr* peer_;
    unsigned* peer_bytes_;
};

/// All connections of a listening socket, accepted by one request of the kernel.
///
///     accept_stream connections(ring, listener);
///     while (auto accepted = co_await connections.next()) ...
///
/// Result     Each next() gives one connected socket, closed on exec.
/// Errors     Of next(): operation_canceled and timed_out by the scope around it, and then no
///            connection is lost; those of accept(2), after which next() may be tried again.
///            too_many_files_open means just that: wait before the next try.
/// Lifetime   `listener` stays open as long as the stream. Connections that were accepted and not
///            taken are closed with it.
/// Thread     The ring's own.
/// In flight  One next() at a time; another ends with connection_already_in_progress.
/// Kernel     IORING_OP_ACCEPT with IORING_ACCEPT_MULTISHOT, Linux 5.19.
class accept_stream : public multishot_stream {
public:
    accept_stream(ring& loop, fd_ref listener);

    class [[nodiscard]] next_operation final : public next_base {
    public:
        using next_base::next_base;
        [[nodiscard]] result<fd> await_resume() noexcept;
    };
    next_operation next() noexcept { return next_operation(state_); }

    /// Accepts no more. next() returns the connections that the kernel accepts until it receives
    /// the cancel, then operation_canceled: none is lost where another process continues with the
    /// listener.
    void stop_accepting() noexcept { state_->close(); }

private:
    class state;
    friend class next_operation;
};

}  // namespace kevring
