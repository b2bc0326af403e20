// timer_queue.hpp: the timers of one loop, kept in user space.
//
// The kernel's own timeouts cost 1.6 ms to cancel when 100 000 are active, so a loop keeps its
// timers here and tells the kernel only the earliest one, as the timeout of its wait.
//
// The structure is a wheel of wheels over the 64 bits of the time in nanoseconds: 11 levels of 64
// slots, six bits each. A timer stands on the level of the highest six bits in which its deadline
// differs from the cursor, the time up to which all has been dealt with, and moves down when the
// cursor comes near. So arm and disarm are a list insertion and removal, however many are active,
// and yet the order is exact to the nanosecond. Why this one: docs/design/0030-timer-queue.md.
#pragma once

#include <kevring/runtime/assert.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace kevring {

class timer_queue;

namespace detail {

// A circular list that is its own end. Null in a node that is not armed.
struct timer_links {
    timer_links* next = nullptr;
    timer_links* prev = nullptr;
};

}  // namespace detail

/// One timer, a link in the queue it is armed in.
///
/// Lifetime   Lives in the waiter's frame and never moves. Must not be armed when it is destroyed.
/// Thread     That of its queue.
struct timer_node : private detail::timer_links {
    /// Called once for each arm() that is not undone by disarm(). The node is not armed any more
    /// when this is called, and may be armed again or destroyed in it.
    using fire_function = void (*)(timer_node&) noexcept;

    explicit timer_node(fire_function fire) noexcept : fire_(fire) {}
    timer_node(const timer_node&) = delete;
    timer_node& operator=(const timer_node&) = delete;
    ~timer_node() {
        KEVRING_ASSERT(!armed(), "timer destroyed while it is armed; disarm it first");
    }

    bool armed() const noexcept { return next != nullptr; }

    /// The deadline of the last arm(), on the steady clock's epoch. One that was past already
    /// reads as the time at which the queue stood then.
    std::int64_t deadline_ns() const noexcept { return deadline_ns_; }

private:
    friend class timer_queue;

    std::int64_t deadline_ns_ = 0;
    fire_function fire_;
};

/// The armed timers of one loop. Reads no clock and allocates nothing.
///
/// Time       Nanoseconds of the steady clock, passed in. "Now" is the latest time passed to
///            expire(), at first that of the constructor; an earlier one than before is taken as no
///            progress.
/// Order      By deadline, exact to the nanosecond, and for the same deadline in the order of
///            arming. A deadline that is past when armed counts as now, so that a timer that is
///            armed again and again in the past cannot hold back others that are due.
/// Thread     One at a time: the loop's.
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

    /// Lets `node` fire in the first expire() at or after the deadline. To change the deadline of
    /// an armed node, disarm it first. INT64_MAX is as good as never.
    void arm(timer_node& node, std::int64_t deadline_ns) noexcept;

    /// Returns true if `node` was armed: it will not fire now.
    bool disarm(timer_node& node) noexcept;

    /// Fires the timers that are due at `now_ns`, at most `count_max`, and returns their number.
    ///
    /// Work       Bounded: beside firing, it moves at most `move_count_max` timers to other slots
    ///            and then returns with fewer fired than were due. What is due is left when
    ///            next_deadline_ns() is not later than now; so a loop that computes its timeout
    ///            from that needs no test for it.
    /// Re-entry   A fire function may arm and disarm any timer, also one that is due in the same
    ///            call. A timer that it arms for now or the past fires in the same call, after all
    ///            others that are due, if `count_max` allows.
    std::size_t expire(std::int64_t now_ns, std::size_t count_max) noexcept;

    /// When to call expire() next; INT64_MAX if no timer is armed.
    ///
    /// Never later than the earliest deadline, and mostly the same. It is earlier when the first
    /// timer of a slot was disarmed while others stay in the slot: then expire() is called once for
    /// nothing, spreads that slot out and knows better.
    std::int64_t next_deadline_ns() const noexcept;

    std::size_t size() const noexcept { return size_; }
    bool empty() const noexcept { return size_ == 0; }

    /// About 40 us of work if every timer has to come from memory.
    static constexpr std::size_t move_count_max = 512;

private:
    static constexpr unsigned level_bits = 6;
    static constexpr std::size_t slots_per_level = std::size_t{1} << level_bits;
    static constexpr std::size_t level_count = (64 + level_bits - 1) / level_bits;
    static constexpr std::int64_t never = std::numeric_limits<std::int64_t>::max();

    // `earliest_ns` is not later than any deadline in the slot, and not before the slot begins.
    // It means nothing in an empty slot.
    struct slot : detail::timer_links {
        std::int64_t earliest_ns = never;
    };

    static std::uint64_t key_of(std::int64_t time_ns) noexcept;
    std::size_t index_for(std::int64_t deadline_ns, std::int64_t cursor_ns) const noexcept;
    std::size_t lowest_index() const noexcept;
    void append(slot& to, std::size_t index, timer_node& node) noexcept;
    void unlink(timer_node& node) noexcept;
    void mark_empty(std::size_t index) noexcept;
    bool spread(std::size_t index, std::size_t& move_budget) noexcept;
    void advance_cursor() noexcept;

    // All deadlines are at or after now_ns_ when armed, and now_ns_ at or after cursor_ns_. The
    // cursor is in no slot that has timers, but for its own nanosecond on level 0: so the lowest
    // occupied slot of the lowest occupied level is the earliest, and timers with the same
    // deadline always stand in the same slot.
    std::int64_t now_ns_;
    std::int64_t cursor_ns_;
    std::size_t size_ = 0;

    // A slot that expire() began to spread and could not finish: until it is empty, the cursor
    // stays, new timers still go to its end, and nothing fires.
    static constexpr std::size_t no_index = ~std::size_t{0};
    std::size_t spreading_index_ = no_index;
    std::int64_t spreading_cursor_ns_ = 0;

    std::uint64_t occupied_levels_ = 0;
    std::array<std::uint64_t, level_count> occupied_slots_{};
    std::array<slot, level_count * slots_per_level> slots_;
};

}  // namespace kevring
