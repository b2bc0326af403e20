// event_port.hpp: the kernel's side of one queue: what is watched there, and how a waiter sleeps.
//
// An epoll set that any thread may wait on, several at a time: the kernel wakes one waiter for an
// edge. Beside watched descriptors the set holds three of its own:
//
//   bell    edge-triggered; rung to wake one waiter for what happened in user space
//   level   level-triggered; on while records are ready and nobody waits, so that poll() of the
//           control descriptor, which is this set, says so
//   alarm   a timerfd at the earliest deadline of the queue's timers
#pragma once

#include <kevring/runtime/fd.hpp>

#include <cstdint>

#include <sys/epoll.h>
#include <time.h>

namespace kevring::detail {

/// Thread     Any, but for what says "under the queue's lock".
/// Errors     The constructor throws std::system_error. Other calls return a negative error number.
class event_port {
public:
    /// Tags of the port's own descriptors; those of watched ones are higher. `none` is no tag.
    enum own_tag : std::uint64_t { none, bell, level, alarm, first_free };

    event_port();

    int add(int number, std::uint32_t poll_bits, std::uint64_t tag) noexcept;
    int change(int number, std::uint32_t poll_bits, std::uint64_t tag) noexcept;
    void remove(int number) noexcept;

    /// Takes up to `capacity` edges without waiting.
    int take(epoll_event* into, int capacity) noexcept;
    /// Waits for at least one, at most until `timeout` is over; null: for ever. 0 also when another
    /// thread has taken what woke this one. -EINTR when a signal handler has run.
    ///
    /// A cancellation point (pthreads(7)): then it does not return, and the edges that the kernel
    /// had handed over by then stand in `into`. So the caller sets each tag there to `none` before.
    int wait(epoll_event* into, int capacity, const timespec* timeout);

    /// Wakes one waiter.
    void ring_bell() noexcept;
    /// Under the queue's lock.
    void set_level(bool on) noexcept;
    /// Before the first set_alarm().
    int make_alarm() noexcept;
    /// Reports `alarm` at or soon after that time on the steady clock; at once if it is past. Under
    /// the queue's lock.
    int set_alarm(std::int64_t deadline_ns) noexcept;

    /// The epoll set itself.
    fd_ref set() const noexcept { return set_; }
    /// Gives away the set's descriptor, which is the lowest number that was free when the port was
    /// made, and goes on with a copy. Before anyone else knows the port.
    ///
    /// Result     The number, or a negative error number.
    int give_set() noexcept;

private:
    int control(int operation, int number, std::uint32_t poll_bits, std::uint64_t tag) noexcept;

    fd set_;
    fd bell_;
    fd level_;
    fd alarm_;
    bool level_on_ = false;
};

}  // namespace kevring::detail
