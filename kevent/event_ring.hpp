// event_ring.hpp: a bounded ring of events that any number of threads fill and empty without a
// lock.
//
// Every event that was ever published has a position, counted from 0 in 64 bits, and position P is
// slot P % capacity of lap P / capacity. Four positions follow each other round the ring:
//
//     committed <= claimed <= published <= reserved <= committed + capacity
//
// Publishing reserves positions, writes the slots, and marks them with their lap, the first slot of
// a batch last: a batch is seen whole or not at all, and events of one thread are claimed in its
// order. Claiming copies what is published behind `claimed` and then moves `claimed` past it by one
// compare-and-swap. If that succeeds, no other thread has claimed, committed or overwritten the
// copied slots, so a copy is valid however the threads were scheduled, and a thread that dies
// between claim and commit takes nothing with it. A commit frees every slot before a position,
// whichever thread claimed it.
//
// Progress    Only calls that document it wait for another thread. publish() and claim() repeat
//             only when another thread has succeeded. A thread that is stopped in the middle of
//             publish() hides the events after its own until it continues.
// Orders      A `mark` pairs producer and consumer; `claimed_` consumers among themselves;
//             `committed_` consumer and producer. A thread that follows the chain mark,
//             claimed, committed has seen all that happened to a slot before it is written again.
// Sleeping    One sleeper is called for one publish, however many events it brings; a sleeper that
//             was called and leaves events behind calls the next. With no sleepers there is no
//             system call.
//
// Spec: 6.4, 6.5. Why it is built so, and what it was measured against:
// docs/design/0020-event-ring.md.
#pragma once

#include <kevring/kevent/kevent.h>
#include <kevring/kevent/detail/futex.hpp>
#include <kevring/kevent/detail/ring_positions.hpp>
#include <kevring/kevent/detail/wait_gate.hpp>
#include <kevring/kevent/detail/word_copy.hpp>
#include <kevring/runtime/assert.hpp>
#include <kevring/runtime/clock.hpp>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <type_traits>

namespace kevring {

/// Events that were claimed together: `count` of them from position `first` on.
struct claimed_events {
    std::uint64_t first = 0;
    std::size_t count = 0;

    /// The position behind the last: what to commit once all before it are done with.
    std::uint64_t end() const noexcept { return first + count; }

    friend bool operator==(const claimed_events&, const claimed_events&) = default;
};

/// A producer that does not sleep for space, such as a loop.
class space_listener {
public:
    /// A slot was freed since listen_for_space(). Called once, on the thread that commits.
    virtual void on_space() noexcept = 0;

protected:
    space_listener() = default;
    space_listener(const space_listener&) = default;
    space_listener& operator=(const space_listener&) = default;
    ~space_listener() = default;
};

/// A bounded ring of `Record`s, many producers, many consumers. Programs use event_ring.
///
/// Threads    Sleep and wake-up of threads: detail::native_threads, or a test's model.
template <class Record, class Threads = detail::native_threads>
class basic_event_ring {
    static_assert(std::is_trivially_copyable_v<Record> && sizeof(Record) % 8 == 0,
                  "a slot is copied by words of 8 bytes");

public:
    using time_point = detail::steady_deadline;

    /// A deadline that never comes.
    static constexpr time_point never = detail::no_deadline;

    /// Makes an empty ring of at least `capacity_min` slots: the next power of two, and at least 2.
    /// The first event has position `first_position`.
    explicit basic_event_ring(std::size_t capacity_min, std::uint64_t first_position = 0)
        : capacity_(std::bit_ceil(std::max<std::size_t>(capacity_min, KEVENT_RING_SIZE_MIN))),
          lap_shift_(std::countr_zero(capacity_)),
          marks_(std::make_unique<atomic<std::uint32_t>[]>(capacity_)),
          words_(std::make_unique<atomic<std::uint64_t>[]>(capacity_ * record_words)) {
        KEVRING_ASSERT(capacity_ <= std::size_t{1} << 30,
                       "event_ring of more than 2^30 slots; pass a smaller capacity");
        reserved_.store(first_position, std::memory_order_relaxed);
        committed_seen_.store(first_position, std::memory_order_relaxed);
        claimed_.store(first_position, std::memory_order_relaxed);
        committed_.store(first_position, std::memory_order_relaxed);
        for (std::size_t slot = 0; slot < capacity_; ++slot) {
            // As if every position before the first had been published.
            const bool passed = slot < (first_position & (capacity_ - 1));
            marks_[slot].store(mark_of(first_position) - (passed ? 0 : 1),
                               std::memory_order_relaxed);
        }
    }

    basic_event_ring(const basic_event_ring&) = delete;

    std::size_t capacity() const noexcept { return capacity_; }

    // Producers.

    /// Publishes the first events of `events`, in order and without another thread's between them.
    /// Returns how many: fewer than asked when the ring is full, or becomes so.
    std::size_t publish(std::span<const Record> events) noexcept {
        const std::optional<reservation> got = reserve(events.size());
        if (!got) return 0;
        write_slots(got->first, events.first(got->count));
        return got->count;
    }

    /// Publishes one event, or returns false: the ring is full.
    bool publish(const Record& event) noexcept { return publish(std::span(&event, 1)) == 1; }

    /// Publishes all of `events` in order, and waits for space as often as it takes. Other threads'
    /// events may come between those of before and after a wait. Returns how many were published:
    /// fewer than asked after `deadline` or close().
    std::size_t publish_until(std::span<const Record> events, clamped_time deadline) noexcept {
        std::size_t count = publish(events);
        bool last_try = false;
        while (count < events.size() && !last_try) {
            space_gate_.prepare_wait();
            last_try = is_closed();
            if (last_try || !is_full()) {
                space_gate_.cancel_wait();
            } else {
                last_try = space_gate_.wait(deadline) == detail::wait_status::timed_out;
            }
            count += publish(events.subspan(count));
            // A notification that this thread did not use is passed on.
            if (space_gate_.has_waiters() && !is_full()) space_gate_.notify_one();
        }
        return count;
    }

    /// Makes the commit that frees the next slot call `listener`, which stays valid until it is
    /// called or stop_listening_for_space() is true. A ring has one listener at a time.
    ///
    /// Result     False: the ring has a free slot, or another listener; nothing is called.
    bool listen_for_space(space_listener& listener) noexcept {
        space_listener* none = nullptr;
        // seq_cst: pairs with move_committed(). Either the committing thread reads the listener, or
        // its commit is read here.
        if (!listener_.compare_exchange_strong(none, &listener, std::memory_order_seq_cst))
            return false;
        return is_full() || !stop_listening_for_space(listener);
    }
    /// False: `listener` was called, or another thread is about to call it.
    bool stop_listening_for_space(space_listener& listener) noexcept {
        space_listener* own = &listener;
        return listener_.compare_exchange_strong(own, nullptr, std::memory_order_seq_cst);
    }

    // Consumers.

    /// Takes the oldest events that no thread has claimed, in order, and copies them to `target`.
    /// The slots stay occupied until they are committed, by anyone.
    claimed_events claim(std::span<Record> target) noexcept {
        // acquire, here and below: pairs with the release in this function, so that what another
        // consumer saw of the marks before `claimed` is seen here too: marks behind the first of a
        // batch are relaxed.
        std::uint64_t first = claimed_.load(std::memory_order_acquire);
        while (!target.empty()) {
            const published_run run = published_from(first, target.size());
            if (run.count == 0) {
                if (!run.overtaken) break;
                first = claimed_.load(std::memory_order_acquire);
                continue;
            }
            read_slots(first, target.first(run.count));
            // release: the copy above is finished before anyone can commit it; pairs with the
            // acquire in commit(), and with the one above.
            if (claimed_.compare_exchange_strong(first, first + run.count,
                                                 std::memory_order_release,
                                                 std::memory_order_acquire)) {
                return {first, run.count};
            }
        }
        return {first, 0};
    }

    /// Claims at least one event, and sleeps until there is one. Returns none after `deadline` or
    /// close(), when there is nothing.
    claimed_events claim_until(std::span<Record> target, clamped_time deadline) noexcept {
        return claim_while(target, deadline, [] { return true; });
    }

    /// As claim_until(), but does not sleep while committed() differs from `expected_committed`:
    /// someone has committed since the caller looked, and it had better look again.
    claimed_events claim_until(std::span<Record> target, clamped_time deadline,
                               std::uint64_t expected_committed) noexcept {
        return claim_while(target, deadline, [&] { return committed() == expected_committed; });
    }

    /// Frees every slot before `position`, whichever thread claimed it, and returns their number: 0
    /// when all of them were free already. -EINVAL: not all before it is claimed.
    std::int64_t commit(std::uint64_t position) noexcept {
        std::uint64_t committed = committed_.load(std::memory_order_relaxed);
        while (position > committed) {
            // acquire: pairs with the release in claim(): all copies of what is claimed are made.
            if (position > claimed_.load(std::memory_order_acquire)) return -EINVAL;
            if (move_committed(committed, position))
                return static_cast<std::int64_t>(position - committed);
        }
        return 0;
    }

    /// As commit(), with the position named by its slot and its lap modulo 2^32. -EINVAL: `slot` is
    /// no slot, or not all before it is claimed; -EOVERFLOW: the lap is more than one away from
    /// over().
    std::int64_t commit(std::uint32_t slot, std::uint32_t lap) noexcept {
        std::uint64_t committed = committed_.load(std::memory_order_relaxed);
        while (true) {
            // acquire: as in the other commit().
            const detail::ring_positions positions{committed,
                                                   claimed_.load(std::memory_order_acquire),
                                                   static_cast<std::uint32_t>(capacity_)};
            // `at` may be behind its time by now; then the move fails and all is decided again.
            const detail::commit_decision decision = decide_commit(positions, slot, lap);
            if (decision.result <= 0 || move_committed(committed, decision.consumer)) {
                return decision.result;
            }
        }
    }

    /// Claims, and commits what it claimed: for consumers that are done with an event once they
    /// have a copy. Commits what others have claimed before, too.
    std::size_t take(std::span<Record> target) noexcept {
        const claimed_events got = claim(target);
        if (got.count != 0) commit(got.end());
        return got.count;
    }

    /// As take(), but sleeps as claim_until() does.
    std::size_t take_until(std::span<Record> target, clamped_time deadline) noexcept {
        const claimed_events got = claim_until(target, deadline);
        if (got.count != 0) commit(got.end());
        return got.count;
    }

    // Anyone.

    /// The position before which all is committed. It may be further already when the call returns.
    std::uint64_t committed() const noexcept {
        // seq_cst: pairs with move_committed(); see is_full().
        return committed_.load(std::memory_order_seq_cst);
    }

    /// The position before which all is claimed. It may be further already when the call returns.
    std::uint64_t claimed() const noexcept { return claimed_.load(std::memory_order_acquire); }

    /// The lap of committed(), modulo 2^32.
    std::uint32_t over() const noexcept {
        return static_cast<std::uint32_t>(committed() >> lap_shift_);
    }

    /// Whether there is nothing to claim. It may be out of date when the call returns.
    bool is_empty() const noexcept {
        // acquire: pairs with claim(), as there.
        const std::uint64_t first = claimed_.load(std::memory_order_acquire);
        // seq_cst: pairs with the last store of write_slots(). A consumer that has entered the gate
        // and reads an old mark here is seen by the producer of that mark. If `first` is inside a
        // batch, then who claimed up to it saw the whole batch, and so does this thread.
        const std::uint32_t mark = marks_[slot_of(first)].load(std::memory_order_seq_cst);
        return laps_behind(mark, first) > 0;
    }

    /// Whether there is no free slot. It may be out of date when the call returns.
    bool is_full() const noexcept {
        const std::uint64_t reserved = reserved_.load(std::memory_order_relaxed);
        // seq_cst: pairs with move_committed(). A producer that has entered the gate and reads an
        // old position here is seen by the thread that moves it on. An old `reserved` only makes
        // the ring look emptier, which costs a try.
        const std::uint64_t committed = committed_.load(std::memory_order_seq_cst);
        return static_cast<std::int64_t>(reserved - committed) >=
               static_cast<std::int64_t>(capacity_);
    }

    /// Ends every wait, now and from now on: they return what can be had without one. Nothing else
    /// changes.
    void close() noexcept {
        // seq_cst: pairs with is_closed() behind enter().
        closed_.store(true, std::memory_order_seq_cst);
        event_gate_.notify_all();
        space_gate_.notify_all();
    }

    bool is_closed() const noexcept { return closed_.load(std::memory_order_seq_cst); }

private:
    template <class T>
    using atomic = typename Threads::template atomic<T>;
    using gate = detail::basic_wait_gate<Threads>;

    static constexpr std::size_t record_words = sizeof(Record) / 8;
    static constexpr std::size_t line_bytes = 64;

    struct reservation {
        std::uint64_t first;
        std::size_t count;
    };
    struct published_run {
        std::size_t count;
        bool overtaken;  // the first slot is on a later lap: someone has claimed the position
    };

    std::size_t slot_of(std::uint64_t position) const noexcept {
        return static_cast<std::size_t>(position) & (capacity_ - 1);
    }

    // The mark of a slot from the publication of `position` in it until that of the next lap.
    std::uint32_t mark_of(std::uint64_t position) const noexcept {
        return static_cast<std::uint32_t>(position >> lap_shift_) + 1;
    }

    // How many laps `mark` lacks until `position` is published: 0 when it is, less when it was
    // overwritten since.
    std::int32_t laps_behind(std::uint32_t mark, std::uint64_t position) const noexcept {
        return static_cast<std::int32_t>(mark_of(position) - mark);
    }

    // Takes positions for up to `count_max` events; none when the ring is full.
    std::optional<reservation> reserve(std::size_t count_max) noexcept {
        std::uint64_t first = reserved_.load(std::memory_order_relaxed);
        // acquire: pairs with the release below: the thread that wrote it had seen the slots free.
        std::uint64_t committed = committed_seen_.load(std::memory_order_acquire);
        bool fresh = false;
        while (count_max != 0) {
            // Below 0 when `first` is old; the exchange fails then.
            const std::int64_t filled = static_cast<std::int64_t>(first - committed);
            const std::size_t space = static_cast<std::size_t>(
                std::max<std::int64_t>(0, static_cast<std::int64_t>(capacity_) - filled));
            if (space < count_max && !fresh) {
                // Looks at the consumers' line only when the ring seems too full.
                // acquire: pairs with the release in move_committed(): the slots are copied.
                committed = committed_.load(std::memory_order_acquire);
                // Another thread's newer value may be lost by this; it is only an estimate.
                committed_seen_.store(committed, std::memory_order_release);
                fresh = true;
                continue;
            }
            if (space == 0) {
                const std::uint64_t now = reserved_.load(std::memory_order_relaxed);
                if (now == first) return std::nullopt;
                first = now;
                fresh = false;
                continue;
            }
            const std::size_t count = std::min(count_max, space);
            // relaxed: assigns slots to writers only. `committed` orders their previous contents,
            // the marks their new ones.
            if (reserved_.compare_exchange_weak(first, first + count, std::memory_order_relaxed,
                                                std::memory_order_relaxed)) {
                return reservation{first, count};
            }
            fresh = false;
        }
        return std::nullopt;
    }

    // Calls work(slot, offset, count, mark) for what of [first, first + count) is on one lap, which
    // is all of it or two parts. In locals, because the compiler must suppose that a store of an
    // atomic changes a member.
    template <class Work>
    void each_lap(std::uint64_t first, std::size_t count, Work work) const noexcept {
        const std::size_t slot = slot_of(first);
        const std::size_t before_end = std::min(count, capacity_ - slot);
        work(slot, std::size_t{0}, before_end, mark_of(first));
        if (before_end != count) {
            work(std::size_t{0}, before_end, count - before_end, mark_of(first) + 1);
        }
    }

    void write_slots(std::uint64_t first, std::span<const Record> events) noexcept {
        each_lap(first, events.size(),
                 [words = words_.get(), events](std::size_t slot, std::size_t offset,
                                                std::size_t count, std::uint32_t) {
                     // Without order among themselves: the mark orders them.
                     detail::store_words(words + slot * record_words,
                                         reinterpret_cast<const std::byte*>(events.data() + offset),
                                         count * record_words);
                 });
        each_lap(first, events.size(),
                 [marks = marks_.get()](std::size_t slot, std::size_t offset, std::size_t count,
                                        std::uint32_t mark) {
                     // relaxed: no thread reads it before it has seen the first mark of the batch.
                     for (std::size_t i = offset == 0 ? 1 : 0; i < count; ++i) {
                         marks[slot + i].store(mark, std::memory_order_relaxed);
                     }
                 });
        // Last: this shows the batch. release: pairs with the acquire in published_from(). seq_cst:
        // pairs with is_empty(), so that a consumer that is about to sleep is seen by notify_one().
        marks_[slot_of(first)].store(mark_of(first), std::memory_order_seq_cst);
        event_gate_.notify_one();
    }

    // How many events from `first` on, up to `count_max`, are published.
    published_run published_from(std::uint64_t first, std::size_t count_max) const noexcept {
        published_run run{0, false};
        bool more = true;
        each_lap(first, std::min(count_max, capacity_),
                 [&run, &more, marks = marks_.get()](std::size_t slot, std::size_t offset,
                                                     std::size_t count, std::uint32_t wanted) {
                     std::size_t i = 0;
                     std::int32_t behind = 0;
                     for (; more && i < count; ++i) {
                         // acquire: pairs with the release in write_slots(): the records are there.
                         const std::uint32_t mark = marks[slot + i].load(std::memory_order_acquire);
                         behind = static_cast<std::int32_t>(wanted - mark);
                         if (behind != 0) {
                             more = false;
                             break;
                         }
                     }
                     run.count += i;
                     run.overtaken = run.overtaken || (behind < 0 && i == 0 && offset == 0);
                 });
        return run;
    }

    void read_slots(std::uint64_t first, std::span<Record> target) const noexcept {
        each_lap(first, target.size(),
                 [words = words_.get(), target](std::size_t slot, std::size_t offset,
                                                std::size_t count, std::uint32_t) {
                     // The acquire of the mark is before them, the release of `claimed_` behind.
                     detail::load_words(reinterpret_cast<std::byte*>(target.data() + offset),
                                        words + slot * record_words, count * record_words);
                 });
    }

    // Moves committed_ from `at` to `target`, or sets `at` to where it is by now.
    bool move_committed(std::uint64_t& committed, std::uint64_t target) noexcept {
        // release: pairs with the acquire in reserve(): who writes the slots next has seen that
        // they were copied. seq_cst: pairs with is_full(), so that a producer that is about to
        // sleep is seen by notify_one().
        if (!committed_.compare_exchange_weak(committed, target, std::memory_order_seq_cst,
                                              std::memory_order_relaxed)) {
            return false;
        }
        space_gate_.notify_one();
        // seq_cst: pairs with listen_for_space().
        if (listener_.load(std::memory_order_seq_cst) != nullptr) [[unlikely]] {
            space_listener* const called = listener_.exchange(nullptr);
            if (called != nullptr) called->on_space();
        }
        return true;
    }

    template <class MaySleep>
    claimed_events claim_while(std::span<Record> target, time_point deadline,
                               MaySleep may_sleep) noexcept {
        claimed_events got = claim(target);
        bool last_try = target.empty();
        while (got.count == 0 && !last_try) {
            event_gate_.prepare_wait();
            last_try = is_closed() || !may_sleep();
            if (last_try || !is_empty()) {
                event_gate_.cancel_wait();
            } else {
                last_try = event_gate_.wait(deadline) == detail::wait_status::timed_out;
            }
            got = claim(target);
            // A notification that this thread did not use is passed on.
            if (event_gate_.has_waiters() && !is_empty()) event_gate_.notify_one();
        }
        return got;
    }

    // Constant after construction.
    const std::size_t capacity_;  // a power of two
    const int lap_shift_;
    const std::unique_ptr<atomic<std::uint32_t>[]> marks_;  // by slot; apart from the records, so
                                                            // that 16 are looked at in one line
    const std::unique_ptr<atomic<std::uint64_t>[]> words_;  // by slot, record_words for each

    // Written by producers.
    alignas(line_bytes) atomic<std::uint64_t> reserved_{0};
    atomic<std::uint64_t> committed_seen_{0};  // some value that committed_ had

    // Written by consumers.
    alignas(line_bytes) atomic<std::uint64_t> claimed_{0};
    atomic<std::uint64_t> committed_{0};

    // Read by producers all the time, and written by waiters and notifiers.
    alignas(line_bytes) gate event_gate_;

    // Read by consumers all the time, and written by waiters and notifiers.
    alignas(line_bytes) gate space_gate_;
    std::atomic<space_listener*> listener_{nullptr};  // no part of the test's model
    atomic<bool> closed_{false};                      // Written once, on any thread.
};

/// The ring of the 40-byte events of a kevent queue.
using event_ring = basic_event_ring<ukevent>;

}  // namespace kevring
