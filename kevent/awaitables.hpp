// awaitables.hpp: single events that a coroutine awaits by themselves, without a queue.
//
//     co_await timer(1s);
//     co_await readable(socket);
//     auto asked = co_await signals(SIGINT, SIGTERM);  // signal_stream.hpp
//     auto what = co_await changes("/etc/hosts");      // change_stream.hpp
//     auto how = co_await wait_for_exit(child);
//
// All of them end with operation_canceled when the scope around them is stopped, and with timed_out
// at its deadline; with_stop() and with_timeout() (runtime/deadline.hpp) limit a single one.
#pragma once

#include <kevring/kevent/change_stream.hpp>
#include <kevring/kevent/signal_stream.hpp>
#include <kevring/runtime/assert.hpp>
#include <kevring/runtime/clock.hpp>
#include <kevring/runtime/exit_status.hpp>
#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/operations/poll.hpp>
#include <kevring/runtime/result.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/sleep.hpp>
#include <kevring/runtime/task.hpp>

#include <cstdint>

#include <sys/types.h>

namespace kevring {

/// A span of time: awaited, it ends once that has passed; in an event_queue it is a period.
///
/// Result     As of sleep_for().
class [[nodiscard]] timer {
public:
    [[nodiscard]] constexpr explicit timer(clamped_duration period) noexcept : period_(period) {}
    constexpr nanoseconds period() const noexcept { return period_; }
    sleep_operation operator co_await() const noexcept { return sleep_for(period_); }

private:
    nanoseconds period_;
};

/// A descriptor's readiness: an await of it ends when the descriptor is ready; in an event_queue
/// each change to ready is an event.
///
/// Result     The ready bits, as of poll_operation: the requested ones, POLLERR, POLLHUP.
/// Lifetime   `file` stays open until the await ends.
class [[nodiscard]] descriptor_events {
public:
    [[nodiscard]] constexpr descriptor_events(fd_ref file, std::uint32_t poll_bits) noexcept
        : file_(file), poll_bits_(poll_bits) {}
    constexpr fd_ref file() const noexcept { return file_; }
    constexpr std::uint32_t poll_bits() const noexcept { return poll_bits_; }
    poll_operation operator co_await() const noexcept {
        KEVRING_ASSERT(
            ring::current() != nullptr,
            "event awaited by a coroutine that runs on no ring; start it by run() or spawn()");
        return {*ring::current(), file_, poll_bits_};
    }

private:
    fd_ref file_;
    std::uint32_t poll_bits_;
};
/// There are bytes to read, connections to accept, or the end.
descriptor_events readable(fd_ref file) noexcept;
/// There is room to write, or a connection has been made.
descriptor_events writable(fd_ref file) noexcept;

/// Waits until a process has ended, and reaps it if it is a child of this one, as waitpid(2) does.
///
/// Errors     no_such_process where there is none when the await begins; operation_canceled,
///            timed_out, and then the process is not reaped.
/// Kernel     pidfd_open(2), Linux 5.3: the number cannot refer to another process later.
task<result<exit_status>> wait_for_exit(pid_t process);

}  // namespace kevring
