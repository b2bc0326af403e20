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
// A thread that has something:     make it visible; gate.call_one();
//
// Invariants  (1) The threads between enter() and the end of leave() or sleep() are as many as
//                 sleepers plus calls.
//             (2) Either the thread that makes something visible sees the sleeper, or the sleeper
//                 sees it: enter() and the look behind it, and the store and call_one() behind it,
//                 are each a seq_cst write and then a seq_cst read. The one look that the ring
//                 takes at something other than the last store has its reason there.
//             (3) A call may be answered by any sleeper. Whoever leaves, for whatever reason, may
//                 have answered one, so it looks once more and, if something is left, passes it on
//                 with call_one().
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
    void enter() noexcept {
        // seq_cst: pairs with the read in call_one(), for (2).
        const std::uint32_t before = word_.fetch_add(one_sleeper, std::memory_order_seq_cst);
        KEVRING_ASSERT((before >> sleepers_shift) < sleepers_max,
                       "too many threads wait for one queue; use fewer waiting threads");
    }

    /// Takes the announcement back: there was no need to sleep.
    void leave() noexcept {
        // acquire, here and below: pairs with the release in call(), so that who answers a call
        // sees what the caller saw.
        std::uint32_t word = word_.load(std::memory_order_relaxed);
        while (true) {
            const std::uint32_t out = sleepers(word) != 0 ? one_sleeper : one_call;
            if (word_.compare_exchange_weak(word, word - out, std::memory_order_acquire,
                                            std::memory_order_relaxed)) {
                return;
            }
        }
    }

    /// Sleeps until called, and leaves. After a signal handler or the deadline it leaves as well.
    sleep_end sleep(steady_deadline deadline) noexcept {
        std::uint32_t word = word_.load(std::memory_order_relaxed);
        while (true) {
            if (calls(word) != 0) {
                // acquire: pairs with the release in call().
                if (word_.compare_exchange_weak(word, word - one_call, std::memory_order_acquire,
                                                std::memory_order_relaxed)) {
                    return sleep_end::woken;
                }
                continue;
            }
            const sleep_end end = Threads::sleep(word_, word, deadline);
            if (end != sleep_end::woken) {
                leave();
                return end;
            }
            word = word_.load(std::memory_order_relaxed);
        }
    }

    /// Calls one of the sleepers, if there is one that nobody has called yet.
    void call_one() noexcept { call(1); }

    /// Calls all of them.
    void call_all() noexcept { call(sleepers_max); }

    /// Whether call_one() would call anyone.
    bool has_sleepers() const noexcept {
        // seq_cst: pairs with enter(), for (2).
        return sleepers(word_.load(std::memory_order_seq_cst)) != 0;
    }

private:
    static constexpr int sleepers_shift = 16;
    static constexpr std::uint32_t one_call = 1;
    static constexpr std::uint32_t one_sleeper = 1u << sleepers_shift;
    static constexpr std::uint32_t sleepers_max = one_sleeper - 1;

    static std::uint32_t sleepers(std::uint32_t word) noexcept { return word >> sleepers_shift; }
    static std::uint32_t calls(std::uint32_t word) noexcept { return word & (one_sleeper - 1); }

    void call(std::uint32_t count_max) noexcept {
        // seq_cst: pairs with enter(), for (2). This load is all that a call costs while nobody
        // sleeps.
        std::uint32_t word = word_.load(std::memory_order_seq_cst);
        while (sleepers(word) != 0) {
            const std::uint32_t count = sleepers(word) < count_max ? sleepers(word) : count_max;
            const std::uint32_t moved = word - count * one_sleeper + count * one_call;
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
