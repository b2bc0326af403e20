// handler_watch.hpp: tells the run of a signal handler from what else ends a sleep.
//
// io_uring_enter(2) fails with EINTR after a signal handler, and after a stop and SIGCONT, and
// nothing tells afterwards which it was. So a thread sleeps there with its signals blocked, and the
// ring polls two signalfds: one for the signals that have a handler, one for all others. A completion
// of the first one ends the sleep, and the handler runs as io_uring_enter(2) returns. The others are
// watched because a program may give a signal a handler, or unblock it, during the sleep, and because
// a signal without a handler may end the process.
#pragma once

#include <kevring/runtime/detail/hidden_fd.hpp>

#include <cstdint>

namespace kevring::detail {

/// Thread     The thread that sleeps; creation and destruction on any.
class handler_watch {
public:
    /// Errors     Throws std::system_error.
    handler_watch();

    /// The signals that are blocked during a sleep, as the kernel counts them: all but those of the
    /// C library, by which it cancels threads.
    static std::uint64_t blocked_signals() noexcept;

    /// A signalfd of the signals that have a handler and are not blocked.
    int handled_fd() const noexcept { return handled_fd_.number(); }
    /// A signalfd of all others.
    int other_fd() const noexcept { return other_fd_.number(); }

    /// After a sleep in which one of the signalfds was reported readable. Adapts both to the handlers
    /// and to the mask of the thread.
    ///
    /// Result     True: a handler has run.
    bool has_run(bool handled_was_reported) noexcept;

private:
    void watch(std::uint64_t handled) noexcept;

    std::uint64_t handled_;
    hidden_fd handled_fd_;
    hidden_fd other_fd_;
};

}  // namespace kevring::detail
