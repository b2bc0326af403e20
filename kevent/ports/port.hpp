// port.hpp: the kernel's side of one queue: descriptors to watch, and where waiters sleep.
//
// The queue core reaches the kernel through this interface only. A port reports readiness as edges;
// it knows neither registrations nor records. Each call handles a batch, so the virtual calls cost
// nothing per event.
//
// Beside watched descriptors a port has three sources of its own:
//
//   wake       edge-triggered; signalled to end a wait for a change in user space
//   readable   while it is set, poll(2) reports the control descriptor readable
//   timer      expires at the earliest deadline of the queue's timers
#pragma once

#include <kevring/kevent/detail/control_identity.hpp>
#include <kevring/runtime/fd.hpp>

#include <cstdint>
#include <span>
#include <string_view>

#include <time.h>

namespace kevring::detail {

/// One report of readiness: the tag of the watched descriptor, and bits of poll(2).
struct edge {
    std::uint64_t tag;
    std::uint32_t bits;
};

/// Thread     Any, except for calls documented as "under the queue's lock".
/// Errors     Calls that return int return 0 or a count, or a negative error number.
class port {
public:
    /// Tags of the port's own sources; those of watched descriptors are at least `first_free`.
    enum own_tag : std::uint64_t { none, wake, readable, timer, first_free };
    /// Edges that a port fills in one call at most; 4 KiB of stack.
    static constexpr unsigned batch_max = 256;

    port() = default;
    port(const port&) = delete;
    port& operator=(const port&) = delete;
    virtual ~port() = default;

    // Constant, any thread.

    /// Name of the port in kevent_describe(3).
    virtual std::string_view name() const noexcept = 0;
    /// True if a report says which bits are set when poll() returns it. False: it says which bits
    /// were set when the descriptor became ready.
    virtual bool reports_present_state() const noexcept { return true; }

    /// True if begin_identification() may succeed.
    virtual bool identifies_control() const noexcept { return false; }

    // Under the queue's lock.

    /// First in every call but READY and commit. A port that belongs to one thread takes the
    /// caller for its owner if it has none.
    ///
    /// Result     0; -EBUSY: another thread owns the port. A port that cannot continue on this
    ///            thread returns the error number of io_uring_setup(2).
    virtual int claim() noexcept { return 0; }
    /// Begins to report edges of descriptor `number`. Bits that are set already are reported too.
    virtual int arm(int number, std::uint32_t poll_bits, std::uint64_t tag) noexcept = 0;
    /// Replaces the bits of an armed descriptor, and reports those that are set already.
    virtual int change(int number, std::uint32_t poll_bits, std::uint64_t tag) noexcept = 0;
    /// 0, or -EPERM: the file of descriptor `number` has no poll operation.
    virtual int check_pollable(int number) noexcept = 0;
    /// Ends it. A report that is in flight keeps its tag.
    virtual void disarm(int number, std::uint64_t tag) noexcept = 0;
    /// The descriptors that one REMOVE disarms, while its caller waits for the kernel.
    struct removals {
        unsigned pending_count = 0;  // the port's
    };
    /// From now on disarm() counts in `of_call`; null: it does not count. Only for a port whose
    /// disarm() returns before the kernel has released the file.
    virtual void track_removals(removals* /*of_call*/) noexcept {}
    /// The next flush() or poll() also finds out whether `number` refers to the control file, in a
    /// system call that it makes anyway. False: the caller has to find out by identify_control().
    virtual bool begin_identification(int /*number*/) noexcept { return false; }
    /// Ends it. Result: the answer; unknown: there was none.
    virtual control_identity end_identification() noexcept { return control_identity::unknown; }
    /// Between begin_identification() and a change() to the same bits in the same call: the port may
    /// begin already to find out which bits are set.
    virtual void prepare_change(std::uint64_t /*tag*/) noexcept {}
    /// Last in every control call: passes on to the kernel what the calls above have queued.
    virtual int flush() noexcept { return 0; }
    /// Sets or clears `readable`.
    virtual void set_readable(bool is_readable) noexcept = 0;
    /// Before the first arm_timer().
    virtual int create_timer() noexcept = 0;
    /// Reports `timer` at or soon after `deadline_ns`, a time above 0 on the steady clock; at once
    /// if it is past.
    virtual int arm_timer(std::int64_t deadline_ns) noexcept = 0;

    // Any thread.

    /// Returns when the kernel has released the files of all that `of_call` counts. No longer tracked,
    /// and without the queue's lock.
    virtual void await_removals(removals& /*of_call*/) noexcept {}
    /// Returns when the edges that came before the call have been dispatched by the port's own
    /// thread. Without the queue's lock.
    virtual void synchronize() noexcept {}
    /// First in a check that does not wait: makes the kernel's current edges available to poll().
    /// poll() alone may lag by one iteration of the port's loop.
    virtual void update() noexcept {}
    /// Fills up to `edges.size()` of the edges that are available. Never blocks.
    virtual int poll(std::span<edge> edges) noexcept = 0;
    /// Waits until poll() has an edge, until `timeout` has passed, or until a signal handler has
    /// run; null: without limit. One thread at a time. While `readable` is set, it waits for edges
    /// that come after the last wait() or poll(), so that `readable` alone does not end it.
    ///
    /// Result     1: poll now, maybe in vain. 0 at the timeout. -EINTR after a signal handler, and
    ///            not after a stop and SIGCONT.
    ///
    /// A cancellation point (pthreads(7)): then it does not return. It consumes no edge.
    virtual int wait(const timespec* timeout) = 0;
    /// Reports the bits of an armed descriptor that are set already, once more. The descriptor
    /// stays armed during the call.
    virtual void report_again(int number, std::uint32_t poll_bits, std::uint64_t tag) noexcept = 0;
    /// Ends the present or else the next wait().
    virtual void wake_one() noexcept = 0;

    /// The queue's own descriptor of the file that the control descriptor refers to.
    virtual fd_ref control() const noexcept = 0;
    /// Returns the descriptor of the control file to the caller, who owns it from now on, and
    /// continues with a duplicate. Called once, before other threads know the port.
    virtual int release_control() noexcept = 0;
};

}  // namespace kevring::detail
