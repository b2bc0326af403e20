// queue_timers.hpp: the timers of one queue, and the port's timer at the earliest of their
// deadlines.
#pragma once

#include <kevring/kevent/ports/port.hpp>
#include <kevring/runtime/clock.hpp>
#include <kevring/runtime/timer_queue.hpp>

#include <cstdint>
#include <memory>

namespace kevring::detail {

/// Created with the first timer: a queue without timers has no timer in its port.
///
/// Thread     The thread that holds the queue's lock.
class queue_timers {
public:
    explicit queue_timers(port& carrier) noexcept : port_(carrier) {}
    queue_timers(const queue_timers&) = delete;
    queue_timers& operator=(const queue_timers&) = delete;

    /// Throws std::bad_alloc.
    timer_queue& timers();
    /// Before the first timer. Result: 0, or a negative error number.
    int prepare();

    /// The port's timer has expired, and has to be set again.
    void on_expired() noexcept { deadline_ns_ = expired; }
    /// Fires the timers that are due, within a bound; true if some were due.
    bool expire() noexcept {
        return timers_ != nullptr && timers_->next_deadline_ns() != never_ns && expire_due();
    }
    /// Last in every call: sets the port's timer if the earliest deadline has changed.
    void arm() noexcept {
        if (timers_ != nullptr && timers_->next_deadline_ns() != deadline_ns_) arm_port();
    }

private:
    // The port's timer has expired, and has to be set again before a thread sleeps or returns.
    static constexpr std::int64_t expired = -1;

    bool expire_due() noexcept;
    void arm_port() noexcept;

    port& port_;
    std::unique_ptr<timer_queue> timers_;
    std::int64_t deadline_ns_ = never_ns;  // of the port's timer
};

}  // namespace kevring::detail
