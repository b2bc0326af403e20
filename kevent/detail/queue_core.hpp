// queue_core.hpp: one queue: its registrations, its ready list, its ring. Both doors, C and C++,
// lead here.
//
// A registration becomes ready at most once before it is collected, so memory is bounded by the
// number of registrations, whatever the burst. The ready list is the truth; a ring in the caller's
// memory gets copies of what is collected.
//
// Waiting     Waiters sleep in the event port, without the lock; the kernel wakes one of them for
//             an edge. Who leaves ready records behind wakes the next.
// Thread      Any, for every member. One mutex for each queue; never held while waiting.
// Spec        5.3 to 5.6, 5.10, 6.4, 7; docs/design/0040-kevent-queue.md.
#pragma once

#include <kevring/kevent/kevent.h>
#include <kevring/kevent/detail/caller_ring.hpp>
#include <kevring/kevent/detail/event_port.hpp>
#include <kevring/kevent/detail/registration_table.hpp>
#include <kevring/kevent/detail/source.hpp>
#include <kevring/kevent/detail/watch_set.hpp>
#include <kevring/runtime/detail/intrusive_list.hpp>
#include <kevring/runtime/timer_queue.hpp>

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>

namespace kevring::detail {

/// Until when a call may wait.
struct wait_limit {
    enum class kind : std::uint8_t { never, forever, steady, realtime };
    kind by = kind::never;
    std::int64_t deadline_ns = 0;  // on the clock that `by` names

    static wait_limit no_wait() noexcept { return {}; }
    static wait_limit forever() noexcept { return {kind::forever, 0}; }
};

class queue_core final : public source_host {
public:
    /// Errors     std::system_error, std::bad_alloc. `ring` is null, or has passed
    ///            caller_ring::check().
    queue_core(kevent_ring* ring, std::uint32_t ring_size);
    queue_core(const queue_core&) = delete;
    queue_core& operator=(const queue_core&) = delete;

    // The calls of kevent.h, with arguments that are checked. Each returns what the call returns.

    int add(ukevent* records, unsigned count);
    /// Registers `record` with a source that `make` makes. What is ready at once is queued.
    ///
    /// Result     0, or a negative error number.
    int add_made(const ukevent& record, const source_factory& make);
    /// A positive number for such a record that no other of this queue has.
    std::uint64_t take_id() noexcept { return next_id_.fetch_add(1, std::memory_order_relaxed); }
    int remove(ukevent* records, unsigned count);
    int modify(ukevent* records, unsigned count);
    /// MODIFY of one registration that leaves its request flags as they are. False: there is none.
    bool change_event(std::uint64_t id, event_type type, std::uint32_t event);
    /// Asks the source of one registration; the answer, or -ENOENT: there is none.
    int ask(std::uint64_t id, event_type type, const std::function<int(source&)>& question);
    int mark_ready(ukevent* records, unsigned count);
    /// The current or else the next waiting call returns without waiting.
    void release_waiter();

    int get_events(unsigned min_count, unsigned max_count, wait_limit limit, ukevent* into);
    int wait(unsigned count, unsigned old_uidx, wait_limit limit);
    int commit(unsigned new_uidx, unsigned over);

    /// A coroutine's wait: no thread sleeps for it in the port. It polls control() for edges, and
    /// there is one whenever `min_count` records have become ready.
    struct loop_waiter : list_link {
        unsigned min_count = 1;
    };
    /// Collects without waiting, if `by.min_count` records are ready. Else, or if all fail their
    /// last check, `by` waits for them from now on; then the result is 0.
    int get_or_watch(loop_waiter& by, unsigned max_count, ukevent* into);
    /// `by` waits no more; the last that is done with it.
    void forget(loop_waiter& by) noexcept;

    bool has_ring() const noexcept { return ring_.has_value(); }
    std::uint32_t ring_size() const noexcept { return ring_->slot_count(); }
    std::size_t registration_count();

    /// Readable while records are ready. The control descriptor refers to the same file.
    fd_ref control() const noexcept { return port_.set(); }
    /// Gives a control descriptor away; once, before anyone else knows the queue.
    int give_control() noexcept { return port_.give_set(); }

    // For sources, under the lock.

    int watch(fd_watch& what, fd_listener& listener, std::uint32_t poll_bits) override;
    void unwatch(fd_watch& what) noexcept override;
    timer_queue& timers() override;
    int prepare_timers() override;
    std::int64_t now_ns() noexcept override;
    void report(registration& of, readiness state) noexcept override;
    std::weak_ptr<void>& shared(event_type type) noexcept override;

private:
    using lock = std::unique_lock<std::mutex>;

    // A call that waits, or is about to: what it waits for.
    struct waiter : list_link {
        unsigned min_count = 1;
        bool needs_space = false;
        unsigned old_uidx = 0;
    };
    class sleep;  // the time that a waiter spends in the port

    int add_one(ukevent& record, const source_factory& make, bool& answered);
    void modify_one(registration& one, std::uint32_t event, std::uint32_t req_flags);
    void mark_broken(registration& one) noexcept;
    int arm(registration& one) noexcept;
    bool arm_or_break(registration& one) noexcept;
    void make_ready(registration& one, std::uint32_t ret_flags) noexcept;
    void unmark(registration& one) noexcept;
    void drop(registration& one) noexcept;

    bool satisfied(const waiter& by) const noexcept;
    bool has_enough(const waiter& by) const noexcept;
    bool await(lock& held, waiter& by, unsigned capacity, wait_limit limit);
    int harvest(lock& held, waiter& by, unsigned capacity, const timespec* timeout, bool may_wait);
    void look(lock& held, waiter& by, unsigned capacity);
    void apply(const epoll_event* events, int count) noexcept;
    void settle() noexcept;
    void wind_alarm() noexcept;
    bool wake_others(const waiter* but) noexcept;

    bool hand_out(ukevent& into) noexcept;
    void go_back(registration& one) noexcept;

    // Constant after construction.
    event_port port_;

    // Written on any thread.
    std::atomic<std::uint64_t> next_id_{1};

    // Written under mutex_.
    std::mutex mutex_;
    list_link ready_;
    std::size_t ready_count_ = 0;
    std::optional<caller_ring> ring_;  // commit() takes no lock
    watch_set watches_;
    std::unique_ptr<timer_queue> timers_;
    std::array<std::weak_ptr<void>, event_type_count> shared_;
    static constexpr std::int64_t alarm_has_rung = -1;  // set again before anyone sleeps or returns
    std::int64_t alarm_ns_;
    list_link waiters_;
    list_link loop_waiters_;
    unsigned sleeping_ = 0;
    bool exit_requested_ = false;
    std::uint64_t call_ = 0;  // numbers the calls that collect
    unsigned calls_unharvested_ = 0;
    std::condition_variable handed_over_;
    registration_table registrations_;  // last: what goes with them needs the rest
};

}  // namespace kevring::detail
