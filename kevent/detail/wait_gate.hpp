// wait_gate.hpp: an eventcount: threads sleep until another thread publishes something for them.
//
// One word holds two numbers: the waiters that were not notified yet, and the notifications that no
// waiter has consumed yet. A notification turns one waiter into one notification, so that a second
// event does not pay to wake the thread that the first one has woken already. Without waiters a
// notification costs one load.
//
// A thread that wants to sleep:    gate.prepare_wait();
//                                  if (something is published) gate.cancel_wait();
//                                  else gate.wait(deadline);
// A thread that publishes:         store; gate.notify_one();
//
// Invariants  (1) The number of threads between prepare_wait() and the end of cancel_wait() or
//             wait()
//                 is the number of waiters plus notifications.
//             (2) Either the publishing thread sees the waiter, or the waiter sees the publication:
//                 prepare_wait() and the check after it, and the store and notify_one() after it,
//                 are each a seq_cst write and then a seq_cst read. The only check in the ring that
//                 reads something other than the last store is explained there.
//             (3) Any waiter may consume a notification. A thread that leaves, for any reason, may
//                 have consumed one, so it checks once more and, if something is left, passes it on
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

    /// Announces that this thread is about to sleep. cancel_wait() or wait() must follow.
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

    /// Notifies one of the waiters, if there is one that was not notified yet.
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
        // seq_cst: pairs with prepare_wait(), for (2). Without waiters this load is the whole cost
        // of a notification.
        std::uint32_t word = word_.load(std::memory_order_seq_cst);
        while (waiters(word) != 0) {
            const std::uint32_t count = waiters(word) < count_max ? waiters(word) : count_max;
            const std::uint32_t moved = word - count * one_waiter + count * one_notification;
            // release: pairs with the acquire of the waiter. acquire, so that consecutive notifiers
            // pass on what they saw.
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
