// timer_queue.hpp: the timers of one loop, in user space.
//
// Cancelling a kernel timeout costs 1.6 ms when 100 000 are active. So a loop keeps its timers here
// and passes only the earliest one to the kernel, as the timeout of its wait.
//
// The structure is a hierarchical timer wheel over the 64 bits of the time in nanoseconds: 11 levels
// of 64 slots, six bits each. The cursor is the time up to which all timers have expired. A timer is
// stored on the level of the highest six bits in which its deadline differs from the cursor, and
// cascades to a lower level when the cursor approaches. So arm and disarm are one list insertion and
// removal for any number of timers, and the order is exact to the nanosecond. The reasons for this
// structure are in docs/design/0030-timer-queue.md.
#pragma once

#include <kevring/runtime/assert.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace kevring {

class timer_queue;

namespace detail {

// A link of a circular list; the list's head is a link too. Null in a node that is not armed.
struct timer_links {
    timer_links* next = nullptr;
    timer_links* prev = nullptr;
};

}  // namespace detail

/// One timer. While armed, it is a link of its queue.
///
/// Lifetime   Usually a member of the waiter's frame; never moves. Disarm it before it is destroyed.
/// Thread     That of its queue.
struct timer_node : private detail::timer_links {
    /// Called once for each arm() that no disarm() cancels. The node is no longer armed when the
    /// function is called; the function may arm or destroy it.
    using fire_function = void (*)(timer_node&) noexcept;

    explicit timer_node(fire_function fire) noexcept : fire_(fire) {}
    timer_node(const timer_node&) = delete;
    timer_node& operator=(const timer_node&) = delete;
    ~timer_node() {
        KEVRING_ASSERT(!armed(), "timer destroyed while it is armed; disarm it first");
    }

    bool armed() const noexcept { return next != nullptr; }

    /// The deadline of the last arm(), in nanoseconds on the steady clock. A deadline in the past
    /// was replaced by the queue's time of that call.
    std::int64_t deadline_ns() const noexcept { return deadline_ns_; }

private:
    friend class timer_queue;

    std::int64_t deadline_ns_ = 0;
    fire_function fire_;
};

/// The armed timers of one loop. Reads no clock and allocates nothing.
///
/// Time       Nanoseconds of the steady clock, passed in. "Now" is the latest time passed to
///            expire(), initially that of the constructor. An earlier time than before counts as the
///            latest one.
/// Order      By deadline, exact to the nanosecond; equal deadlines in the order of arming. A
///            deadline in the past counts as now, so that a timer that is repeatedly armed in the
///            past cannot delay others that are due.
/// Thread     The loop's thread.
/// Lifetime   Never moves. All timers are disarmed before it is destroyed.
class timer_queue {
public:
    explicit timer_queue(std::int64_t now_ns) noexcept;
    timer_queue(const timer_queue&) = delete;
    timer_queue& operator=(const timer_queue&) = delete;
    ~timer_queue() {
        KEVRING_ASSERT(
            empty(),
            "ring destroyed while a timer is armed; end the task that waits for the timer first");
    }

    /// Makes the first expire() at or after the deadline fire `node`. To change the deadline of an
    /// armed node, disarm it first. INT64_MAX never expires.
    void arm(timer_node& node, std::int64_t deadline_ns) noexcept;

    /// Returns true if `node` was armed; it does not fire then.
    bool disarm(timer_node& node) noexcept;

    /// Fires the timers that are due at `now_ns`, at most `count_max`, and returns their number.
    ///
    /// Work       Bounded: in addition to firing, it moves at most `move_count_max` timers to other
    ///            slots, then returns although more are due. next_deadline_ns() is not later than
    ///            now in that case, so a loop that computes its timeout from it needs no test.
    /// Re-entry   A fire function may arm and disarm any timer, including one that is due in the
    ///            same call. A timer that it arms for now or the past fires in the same call, after
    ///            all others that are due, if `count_max` allows.
    std::size_t expire(std::int64_t now_ns, std::size_t count_max) noexcept;

    /// The time of the next necessary expire(); INT64_MAX if no timer is armed.
    ///
    /// Never later than the earliest deadline, and usually equal. It is earlier after the first
    /// timer of a slot was disarmed while others remain in the slot: one expire() then fires no
    /// timer, but cascades that slot and corrects the value.
    std::int64_t next_deadline_ns() const noexcept;

    /// Moves all armed timers to `kept`, a list of the caller's: they never fire. The queue is
    /// empty afterwards, and the timers are not disarmed any more.
    void abandon(detail::timer_links& kept) noexcept;

    std::size_t size() const noexcept { return size_; }
    bool empty() const noexcept { return size_ == 0; }

    /// About 40 us of work if no timer is in the CPU caches.
    static constexpr std::size_t move_count_max = 512;

private:
    static constexpr unsigned level_bits = 6;
    static constexpr std::size_t slots_per_level = std::size_t{1} << level_bits;
    static constexpr std::size_t level_count = (64 + level_bits - 1) / level_bits;
    static constexpr std::int64_t never = std::numeric_limits<std::int64_t>::max();

    // `earliest_ns` is not later than any deadline in the slot, and not before the slot's begin. It
    // is undefined in an empty slot.
    struct slot : detail::timer_links {
        std::int64_t earliest_ns = never;
    };

    static std::uint64_t key_of(std::int64_t time_ns) noexcept;
    std::size_t index_for(std::int64_t deadline_ns, std::int64_t cursor_ns) const noexcept;
    std::size_t lowest_index() const noexcept;
    void append(slot& target, std::size_t index, timer_node& node) noexcept;
    void unlink(timer_node& node) noexcept;
    void mark_empty(std::size_t index) noexcept;
    bool cascade(std::size_t index, std::size_t& move_budget) noexcept;
    void advance_cursor() noexcept;

    // All deadlines are at or after now_ns_ when armed, and now_ns_ is at or after cursor_ns_. The
    // cursor is in no occupied slot, except for its own nanosecond on level 0. So the lowest
    // occupied slot of the lowest occupied level is the earliest, and timers with the same deadline
    // are always in the same slot.
    std::int64_t now_ns_;
    std::int64_t cursor_ns_;
    std::size_t size_ = 0;

    // A slot that expire() has begun to cascade and could not finish. Until it is empty, the cursor
    // does not move, new timers are still appended to the slot, and no timer fires.
    static constexpr std::size_t no_index = ~std::size_t{0};
    std::size_t cascading_index_ = no_index;
    std::int64_t cascading_cursor_ns_ = 0;

    std::uint64_t occupied_levels_ = 0;
    std::array<std::uint64_t, level_count> occupied_slots_{};
    std::array<slot, level_count * slots_per_level> slots_;
};

}  // namespace kevring
