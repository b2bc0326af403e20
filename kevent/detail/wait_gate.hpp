// wait_gate.hpp: where threads sleep until there is something for them.
//
// One word holds two numbers: the sleepers that nobody has called yet, and the calls that no
// sleeper has answered yet. Whoever calls turns one sleeper into one call, so that a second event
// does not pay to wake the thread that the first one has woken already, and nobody pays while
// nobody sleeps.
//
// A thread that wants to sleep:    gate.enter();
//                                  if (there is something by now) gate.leave();
//                                  else gate.sleep(deadline);
// A thread that has something:     make it visible; gate.notify_one();
//
// Invariants  (1) The threads between enter() and the end of leave() or sleep() are as many as
//                 sleepers plus calls.
//             (2) Either the thread that makes something visible sees the sleeper, or the sleeper
//                 sees it: enter() and the look behind it, and the store and notify_one() behind it,
//                 are each a seq_cst write and then a seq_cst read. The one look that the ring
//                 takes at something other than the last store has its reason there.
//             (3) A call may be answered by any sleeper. Whoever leaves, for whatever reason, may
//                 have answered one, so it looks once more and, if something is left, passes it on
//                 with notify_one().
// Thread      Any, for every member.
#pragma once

#include <kevring/kevent/detail/futex.hpp>
#include <kevring/runtime/assert.hpp>

#include <atomic>
#include <cstdint>

namespace kevring::detail {

template <class Threads>
class basic_wait_gate {
public:
    basic_wait_gate() = default;
    basic_wait_gate(const basic_wait_gate&) = delete;

    /// Announces that this thread is about to sleep. leave() or sleep() must follow.
    void prepare_wait() noexcept {
        // seq_cst: pairs with the read in notify_one(), for (2).
        const std::uint32_t before = word_.fetch_add(one_waiter, std::memory_order_seq_cst);
        KEVRING_ASSERT((before >> waiters_shift) < waiters_max,
                       "too many threads wait for one queue; use fewer waiting threads");
    }

    /// Takes the announcement back: there was no need to sleep.
    void cancel_wait() noexcept {
        // acquire, here and below: pairs with the release in call(), so that who answers a call
        // sees what the caller saw.
        std::uint32_t word = word_.load(std::memory_order_relaxed);
        while (true) {
            const std::uint32_t out = waiters(word) != 0 ? one_waiter : one_notification;
            if (word_.compare_exchange_weak(word, word - out, std::memory_order_acquire,
                                            std::memory_order_relaxed)) {
                return;
            }
        }
    }

    /// Sleeps until called, and leaves. After a signal handler or the deadline it leaves as well.
    wait_status wait(steady_deadline deadline) noexcept {
        std::uint32_t word = word_.load(std::memory_order_relaxed);
        while (true) {
            if (notification_count(word) != 0) {
                // acquire: pairs with the release in call().
                if (word_.compare_exchange_weak(word, word - one_notification,
                                                std::memory_order_acquire,
                                                std::memory_order_relaxed)) {
                    return wait_status::woken;
                }
                continue;
            }
            const wait_status end = Threads::sleep(word_, word, deadline);
            if (end != wait_status::woken) {
                cancel_wait();
                return end;
            }
            word = word_.load(std::memory_order_relaxed);
        }
    }

    /// Calls one of the sleepers, if there is one that nobody has called yet.
    void notify_one() noexcept { call(1); }

    /// Calls all of them.
    void notify_all() noexcept { call(waiters_max); }

    /// Whether notify_one() would call anyone.
    bool has_waiters() const noexcept {
        // seq_cst: pairs with enter(), for (2).
        return waiters(word_.load(std::memory_order_seq_cst)) != 0;
    }

private:
    static constexpr int waiters_shift = 16;
    static constexpr std::uint32_t one_notification = 1;
    static constexpr std::uint32_t one_waiter = 1u << waiters_shift;
    static constexpr std::uint32_t waiters_max = one_waiter - 1;

    static std::uint32_t waiters(std::uint32_t word) noexcept { return word >> waiters_shift; }
    static std::uint32_t notification_count(std::uint32_t word) noexcept {
        return word & (one_waiter - 1);
    }

    void call(std::uint32_t count_max) noexcept {
        // seq_cst: pairs with enter(), for (2). This load is all that a call costs while nobody
        // sleeps.
        std::uint32_t word = word_.load(std::memory_order_seq_cst);
        while (waiters(word) != 0) {
            const std::uint32_t count = waiters(word) < count_max ? waiters(word) : count_max;
            const std::uint32_t moved = word - count * one_waiter + count * one_notification;
            // release: pairs with the acquire of whoever answers. acquire, so that callers in a row
            // hand on what they saw.
            if (word_.compare_exchange_weak(word, moved, std::memory_order_acq_rel,
                                            std::memory_order_relaxed)) {
                Threads::wake(word_, count);
                return;
            }
        }
    }

    typename Threads::template atomic<std::uint32_t> word_{0};  // Written on any thread.
};

using wait_gate = basic_wait_gate<native_threads>;

}  // namespace kevring::detail
