// caller_ring.hpp: the queue's side of a `struct kevent_ring` in the caller's memory.
//
// The queue only ever writes that memory: slots, ring_kidx, ring_over. Its own state is
// kept here, so that a program that overwrites its ring damages its own records and nothing else.
//
// Thread      place() by one thread at a time, which the queue's lock or its driver sees to; each
//             call happens after the one before it. Everything else on any thread, at any time.
// Lifetime    The memory stays valid, and where it is, as long as this.
// Invariants  (1) committed_ <= placed_ <= committed_ + slot_count_.
//             (2) A reader that loads ring_kidx with acquire sees whole slots up to it.
//             (3) When no commit is under way, ring_over is the lap of committed_.
//
// Spec: 5.6, 6; K-011, K-069, K-072, K-073, K-075 to K-087.
#pragma once

#include <kevring/kevent/kevent.h>
#include <kevring/kevent/detail/ring_positions.hpp>
#include <kevring/runtime/assert.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace kevring::detail {

class caller_ring {
public:
    /// Whether kevent_init() may take this ring: 0 or -EINVAL. A slot count of more than INT_MAX is
    /// refused too, because kevent_commit() could not say that it freed them all.
    static int check(const kevent_ring* memory, unsigned slot_count) noexcept {
        if (memory == nullptr || slot_count < KEVENT_RING_SIZE_MIN || slot_count > INT_MAX) {
            return -EINVAL;
        }
        if (reinterpret_cast<std::uintptr_t>(memory) % alignof(kevent_ring) != 0) return -EINVAL;
        return 0;
    }

    /// Takes `memory`, which check() has passed, as a ring without records, and sets its header.
    /// The first record has position `first_position`.
    /// At most `record_count_max` slots are filled at a time; 0: all.
    caller_ring(kevent_ring* memory, unsigned slot_count, std::uint64_t first_position = 0,
                unsigned record_count_max = 0) noexcept
        : memory_(memory),
          slot_count_(slot_count),
          record_count_max_(record_count_max == 0 ? slot_count : record_count_max),
          placed_(first_position),
          committed_seen_(first_position),
          slot_(detail::slot_of(first_position, slot_count)),
          committed_(first_position) {
        KEVRING_ASSERT(check(memory, slot_count) == 0,
                       "internal error: a ring was used that failed its check; report it with the "
                       "call that led to it");
        __atomic_store_n(&memory_->ring_kidx, slot_, __ATOMIC_RELAXED);
        __atomic_store_n(&memory_->ring_over, lap32(first_position), __ATOMIC_RELAXED);
    }

    caller_ring(const caller_ring&) = delete;

    std::uint32_t slot_count() const noexcept { return slot_count_; }

    // The thread that places.

    /// Copies a record to the next slot and shows it, or returns false: the ring is full.
    bool place(const ukevent& record) noexcept {
        const std::uint64_t position = placed_.load(std::memory_order_relaxed);  // own
        if (position - committed_seen_ == record_count_max_) {
            // acquire: pairs with the release in commit(): what the slot held is read.
            committed_seen_ = committed_.load(std::memory_order_acquire);
            if (position - committed_seen_ == record_count_max_) return false;
        }
        write_slot(record);
        slot_ = slot_ + 1 == slot_count_ ? 0 : slot_ + 1;
        // release: pairs with the acquire in commit(). First: who has seen ring_kidx may commit up
        // to it.
        placed_.store(position + 1, std::memory_order_release);
        // release: pairs with the acquire load of ring_kidx in the program.
        __atomic_store_n(&memory_->ring_kidx, slot_, __ATOMIC_RELEASE);
        return true;
    }

    /// Places the first of `records`, in order, and returns how many had room.
    std::size_t place(std::span<const ukevent> records) noexcept {
        std::size_t count = 0;
        while (count < records.size() && place(records[count])) ++count;
        return count;
    }

    /// The position of the next record.
    std::uint64_t next_position() const noexcept { return placed_.load(std::memory_order_relaxed); }

    // Any thread.

    /// kevent_commit(): see there. When it frees slots, a wait that was delayed by the full
    /// ring may continue, and the queue must wake it.
    int commit(std::uint32_t new_uidx, std::uint32_t over) noexcept {
        std::uint64_t committed = committed_.load(std::memory_order_relaxed);
        while (true) {
            // acquire: pairs with the release in place(). Second: so it is not behind `at`. It may
            // be more than a ring ahead when `at` is old; then the exchange fails and all is
            // decided again.
            const ring_positions positions{committed, placed_.load(std::memory_order_acquire),
                                           slot_count_};
            const commit_decision decision = decide_commit(positions, new_uidx, over);
            if (decision.result <= 0) return decision.result;
            // release: pairs with the acquire in place(): the caller has read the slots. seq_cst:
            // pairs with space(), and with the load in store_ring_over().
            if (committed_.compare_exchange_weak(committed, decision.consumer,
                                                 std::memory_order_seq_cst,
                                                 std::memory_order_relaxed)) {
                if (lap32(committed) != lap32(decision.consumer)) store_ring_over();
                return decision.result;
            }
        }
    }

    /// Copies the oldest records that are not committed to `target`, and commits them: each record
    /// is taken by one call. Records that another thread commits at the same time may be copied in
    /// vain; the call then starts again. Result: how many were taken.
    std::size_t take(std::span<ukevent> target) noexcept {
        std::uint64_t committed = committed_.load(std::memory_order_acquire);
        while (true) {
            // acquire: pairs with the release in place(). Second, as in commit().
            const std::uint64_t filled = placed_.load(std::memory_order_acquire) - committed;
            const auto count = static_cast<std::size_t>(
                std::min<std::uint64_t>({filled, slot_count_, target.size()}));
            if (count == 0) return 0;
            for (std::size_t i = 0; i < count; ++i)
                read_slot(detail::slot_of(committed + i, slot_count_), target[i]);
            // No thread overwrites a slot before it is committed, so a copy is good if this
            // succeeds. seq_cst and release: as in commit().
            if (committed_.compare_exchange_weak(committed, committed + count,
                                                 std::memory_order_seq_cst,
                                                 std::memory_order_acquire)) {
                if (lap32(committed) != lap32(committed + count)) store_ring_over();
                return count;
            }
        }
    }

    /// How many records are not committed. It may be out of date when the call returns.
    std::uint32_t filled() const noexcept { return record_count_max_ - space(); }

    /// How many records have room. On the placing thread no fewer have it later.
    std::uint32_t space() const noexcept {
        // seq_cst: pairs with the exchange in commit(). A thread that announces by a seq_cst store
        // that it waits for room, and then finds none here, is seen by the seq_cst load of a thread
        // that commits afterwards.
        const std::uint64_t committed = committed_.load(std::memory_order_seq_cst);
        // Second: a difference of more than a ring only says that `committed` is old.
        const std::uint64_t placed = placed_.load(std::memory_order_relaxed);
        const std::uint64_t filled = std::min<std::uint64_t>(placed - committed, record_count_max_);
        return record_count_max_ - static_cast<std::uint32_t>(filled);
    }

    bool is_full() const noexcept { return space() == 0; }

    /// The position up to which all is committed.
    std::uint64_t committed() const noexcept { return committed_.load(std::memory_order_seq_cst); }

    /// The slot up to which all is committed.
    std::uint32_t uidx() const noexcept {
        return detail::slot_of(committed_.load(std::memory_order_seq_cst), slot_count_);
    }

    /// Whether kevent_wait() must not sleep: someone has committed since the caller saw `old_uidx`.
    bool is_stale(std::uint32_t old_uidx) const noexcept { return uidx() != old_uidx; }

    /// Both positions. When others place or commit concurrently, each is a past value, and consumer
    /// is not ahead of producer.
    ring_positions positions() const noexcept {
        const std::uint64_t committed = committed_.load(std::memory_order_acquire);
        return {committed, placed_.load(std::memory_order_acquire), slot_count_};
    }

private:
    // Records are not made of these, so the compiler must not conclude that they are other memory.
    using word [[gnu::may_alias]] = std::uint64_t;
    static constexpr std::size_t record_words = sizeof(ukevent) / sizeof(word);
    static constexpr std::size_t line_bytes = 64;

    std::uint32_t lap32(std::uint64_t position) const noexcept {
        return static_cast<std::uint32_t>(lap_of(position, slot_count_));
    }

    void write_slot(const ukevent& record) noexcept {
        std::array<std::uint64_t, record_words> words;
        std::memcpy(words.data(), &record, sizeof(record));
        word* const slot = reinterpret_cast<word*>(&memory_->event[slot_]);
        // relaxed: ring_kidx orders them. Atomic, because a thread of the program that is too late
        // may be reading them, to throw away what it reads.
        for (std::size_t i = 0; i < record_words; ++i) {
            __atomic_store_n(&slot[i], words[i], __ATOMIC_RELAXED);
        }
    }

    void read_slot(std::uint32_t slot, ukevent& record) const noexcept {
        std::array<std::uint64_t, record_words> words;
        const word* const source = reinterpret_cast<const word*>(&memory_->event[slot]);
        for (std::size_t i = 0; i < record_words; ++i)
            words[i] = __atomic_load_n(&source[i], __ATOMIC_RELAXED);
        std::memcpy(&record, words.data(), sizeof(record));
    }

    // Threads may arrive in another order than they advanced committed_. A thread that stores a lap
    // that is no longer the last one sees that after the store, and stores again.
    void store_ring_over() noexcept {
        std::uint64_t committed = committed_.load(std::memory_order_seq_cst);
        while (true) {
            // seq_cst, and the load below: pairs with the exchange in commit(). If this overwrites
            // a later lap, then the exchange that made it later is before this store in the one
            // order of all of them, and so the load sees it.
            __atomic_store_n(&memory_->ring_over, lap32(committed), __ATOMIC_SEQ_CST);
            const std::uint64_t now = committed_.load(std::memory_order_seq_cst);
            if (lap32(now) == lap32(committed)) return;
            committed = now;
        }
    }

    // Constant after construction.
    kevent_ring* const memory_;
    const std::uint32_t slot_count_;
    const std::uint32_t record_count_max_;

    // Written by the thread that places.
    alignas(line_bytes) std::atomic<std::uint64_t> placed_;
    std::uint64_t committed_seen_;  // some value that committed_ had
    std::uint32_t slot_;            // of placed_

    // Written on any thread.
    alignas(line_bytes) std::atomic<std::uint64_t> committed_;
};

}  // namespace kevring::detail
