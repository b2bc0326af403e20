// queue_core.hpp: one queue: its registrations, its ready list, its ring. The C and the C++
// interface both call it.
//
// A registration is in the ready list at most once, so memory is bounded by the number of
// registrations, and a burst loses nothing. The ready list is authoritative; a ring in the caller's
// memory receives copies of the collected records.
//
// Parts       queue_core.cpp: control (ADD, REMOVE, MODIFY, READY). queue_collect.cpp: waiting and
//             collecting. queue_publish.cpp: the same where a driver publishes. ready_list,
//             waiter_list, queue_timers, watch_set, registration_table: data.
// Waiting     One thread, the leader, waits in the port; others sleep until a thread that leaves
//             records behind, or stops leading, wakes them. No thread sleeps with the lock.
// Thread      Any, for every member. One mutex for each queue; never held while waiting.
// Spec        5.3 to 5.6, 5.10, 6.4, 7; docs/design/0040-kevent-queue.md.
#pragma once

#include <kevring/kevent/kevent.h>
#include <kevring/kevent/detail/caller_ring.hpp>
#include <kevring/kevent/detail/queue_timers.hpp>
#include <kevring/kevent/detail/ready_list.hpp>
#include <kevring/kevent/detail/registration_table.hpp>
#include <kevring/kevent/detail/ring_gate.hpp>
#include <kevring/kevent/detail/source.hpp>
#include <kevring/kevent/detail/wait_limit.hpp>
#include <kevring/kevent/detail/wait_list.hpp>
#include <kevring/kevent/detail/watch_set.hpp>
#include <kevring/kevent/ports/port.hpp>
#include <kevring/runtime/thread_mutex.hpp>
#include <kevring/runtime/timer_queue.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kevring::detail {

/// How records get into the ring of a queue.
enum class publication : std::uint8_t {
    by_call,    // kevent_wait() and kevent_get_events() move them
    by_driver,  // as events complete
};

class queue_core final : public source_host {
public:
    /// `ring` is null, or has passed caller_ring::check(). `port_reason` is static. Throws
    /// std::bad_alloc.
    ///
    /// With publication::by_driver there is a ring; the queue never waits in the port, and some
    /// thread calls publish_events() whenever the port has edges. Every call that makes a record
    /// ready places it, and at most ring_size - 1 slots are filled.
    queue_core(std::unique_ptr<port> carrier, kevent_ring* ring, std::uint32_t ring_size,
               std::string_view port_reason = "", publication how = publication::by_call);
    queue_core(const queue_core&) = delete;
    queue_core& operator=(const queue_core&) = delete;

    // The calls of kevent.h, with checked arguments. Each returns the value of the call.
    //
    // With an `unidentified` number a call finds out by itself whether that number still refers to
    // this queue's control file. not_identified: it does not, or the call could not find out; nothing
    // has changed, unless the number refers to another file.

    static constexpr int identified = -1;
    static constexpr int not_identified = std::numeric_limits<int>::min();
    /// True if a call with an unidentified number can succeed.
    bool identifies_control() const noexcept { return port_->identifies_control(); }

    int add(ukevent* records, unsigned count);
    /// Registers `record` with a source that `make` makes. A record that is ready is queued.
    ///
    /// Result     0, or a negative error number.
    int add_with_source(const ukevent& record, const source_factory& make);
    /// A positive number for such a record, unique within this queue.
    std::uint64_t allocate_id() noexcept {
        return next_id_.fetch_add(1, std::memory_order_relaxed);
    }
    int remove(ukevent* records, unsigned count);
    int modify(ukevent* records, unsigned count, int unidentified = identified);
    /// MODIFY of one registration that keeps its request flags. False: no such registration.
    bool change_event(std::uint64_t id, event_type type, std::uint32_t event);
    /// Calls `question` with the source of one registration and returns its result; -ENOENT: no
    /// such registration.
    int query_source(std::uint64_t id, event_type type,
                     const std::function<int(source&)>& question);
    int mark_ready(ukevent* records, unsigned count);
    /// The current or else the next waiting call returns without waiting.
    void interrupt_wait();

    int get_events(unsigned min_count, unsigned max_count, wait_limit limit, ukevent* buffer,
                   int unidentified = identified);
    int wait(unsigned count, unsigned old_uidx, wait_limit limit, int unidentified = identified);
    int commit(unsigned new_uidx, unsigned over);

    /// Collects without waiting if `self.min_count` records are ready. If fewer are, or all fail
    /// their last check, the result is 0, and `self` waits from now on: the control descriptor
    /// reports an edge whenever `self.min_count` records have become ready.
    int collect_or_wait(async_waiter& self, unsigned max_count, ukevent* buffer);
    /// Ends the wait of `self`; the last call before `self` is destroyed.
    void cancel_wait(async_waiter& self) noexcept;

    /// Fetches all edges of the port and publishes the records that are ready.
    void publish_events() noexcept;
    /// kevent_close(): calls that wait end with -EBADF, and so do later ones that read or collect.
    /// When it returns, no thread uses the memory of the ring, and none will.
    void close() noexcept;

    bool has_ring() const noexcept { return ring_.has_value(); }
    std::uint32_t ring_size() const noexcept { return ring_->slot_count(); }
    std::size_t registration_count();
    /// Runs `action` under the queue's lock, for calls of the port that change its carrier.
    template <class Action>
    auto under_lock(Action action) {
        const lock held(mutex_);
        return action();
    }
    /// Port, its reason, and how many descriptors it holds, as lines `key: value`.
    std::string describe();

    /// The queue's own descriptor of the file that the control descriptor refers to; readable while
    /// records are ready.
    fd_ref control() const noexcept { return port_->control(); }
    /// See port.
    int release_control() noexcept;
    /// O_NONBLOCK of the control descriptor now.
    bool is_non_blocking() const noexcept;

    // For sources, which call them under the lock: each asserts that, because a source does not see
    // the mutex of its queue.

    int watch(fd_watch& target, fd_handler& handler, std::uint32_t poll_bits) override;
    void prepare_watch(const fd_watch& target) noexcept override;
    void unwatch(fd_watch& target) noexcept override;
    void report_again(const fd_watch& target) noexcept override;
    void fetch_reports() noexcept override;
    bool is_driven() const noexcept override { return publishes_; }
    int check_pollable(int number) noexcept override { return port_->check_pollable(number); }
    bool is_abandoned() const noexcept override;
    timer_queue& timers() override {
        mutex_.assert_held();
        return timers_.timers();
    }
    int prepare_timers() override {
        mutex_.assert_held();
        return timers_.prepare();
    }
    std::int64_t now_ns() noexcept override;
    void report(registration& target, readiness state) noexcept override;
    std::weak_ptr<void>& shared_state(event_type type) noexcept override;

private:
    using lock = thread_lock;
    class waiting;  // the time that a thread is in the wait list
    class sleep;    // the part of it without the lock

    // queue_core.cpp

    int add_one(ukevent& record, const source_factory& make, bool& answered)
        KEVRING_REQUIRES(mutex_);
    bool identify_by_port(int number, const ukevent* records, unsigned count) noexcept
        KEVRING_REQUIRES(mutex_);
    bool begin_removals(const ukevent* records, unsigned count) noexcept KEVRING_REQUIRES(mutex_);
    bool narrows(const ukevent* records, unsigned count) KEVRING_EXCLUDES(mutex_);
    void modify_one(registration& entry, std::uint32_t event, std::uint32_t req_flags)
        KEVRING_REQUIRES(mutex_);
    void mark_broken(registration& entry) noexcept KEVRING_REQUIRES(mutex_);
    int arm(registration& entry) noexcept KEVRING_REQUIRES(mutex_);
    bool arm_or_break(registration& entry) noexcept KEVRING_REQUIRES(mutex_);
    void make_ready(registration& entry, std::uint32_t ret_flags) noexcept KEVRING_REQUIRES(mutex_);
    void drop(registration& entry) noexcept KEVRING_REQUIRES(mutex_);

    // queue_collect.cpp

    bool satisfied(const wait_condition& condition) const noexcept KEVRING_REQUIRES(mutex_);
    bool has_enough(const wait_condition& condition) const noexcept KEVRING_REQUIRES(mutex_);
    bool can_collect(const wait_condition& condition, unsigned capacity) const noexcept
        KEVRING_REQUIRES(mutex_);
    unsigned room_for(unsigned capacity) const noexcept KEVRING_REQUIRES(mutex_);
    template <class Collect>
    int collect(const wait_condition& condition, unsigned capacity, wait_limit limit,
                int unidentified, Collect collect_ready);
    bool end_identification(int number) noexcept KEVRING_REQUIRES(mutex_);
    bool wait_until_ready(lock& held, const wait_condition& condition, unsigned capacity,
                          wait_limit limit) KEVRING_REQUIRES(mutex_);
    int sleep_until(lock& held, waiter& self, std::int64_t left_ns) KEVRING_REQUIRES(mutex_);
    int fetch_events(unsigned capacity) noexcept KEVRING_REQUIRES(mutex_);
    void fetch_if_useful(const wait_condition& condition, unsigned capacity, bool waits) noexcept
        KEVRING_REQUIRES(mutex_);
    void poll_events(unsigned capacity) noexcept KEVRING_REQUIRES(mutex_);
    void fetch_all_events() noexcept KEVRING_REQUIRES(mutex_);
    void dispatch_events(std::span<const edge> edges) noexcept KEVRING_REQUIRES(mutex_);
    void notify_waiters(const waiter* self = nullptr) noexcept KEVRING_REQUIRES(mutex_);
    bool wake_next(const waiter* self) noexcept KEVRING_REQUIRES(mutex_);

    bool passes_last_check(registration& entry) noexcept KEVRING_REQUIRES(mutex_);
    void drop_stale(unsigned capacity) noexcept KEVRING_REQUIRES(mutex_);
    registration* drop_stale_batch(registration& first, std::size_t count) noexcept
        KEVRING_REQUIRES(mutex_);
    bool needs_last_check(const registration& entry) const noexcept KEVRING_REQUIRES(mutex_);
    bool end_last_check(registration& entry, readiness state) noexcept KEVRING_REQUIRES(mutex_);
    bool collect_one(ukevent& target) noexcept KEVRING_REQUIRES(mutex_);
    void rearm(registration& entry) noexcept KEVRING_REQUIRES(mutex_);
    unsigned collect_into_buffer(unsigned max_count, ukevent* buffer) noexcept
        KEVRING_REQUIRES(mutex_);
    unsigned collect_into_ring(unsigned max_count) noexcept KEVRING_REQUIRES(mutex_);

    // queue_publish.cpp

    class published_wait;
    int take_published(unsigned min_count, unsigned max_count, wait_limit limit, ukevent* buffer);
    int wait_for_published(unsigned max_count, unsigned old_uidx, wait_limit limit);
    bool sleep_until_published(unsigned min_count, wait_limit& limit);
    bool take_published_interrupt() noexcept;
    bool end_interrupt() noexcept KEVRING_REQUIRES(mutex_);
    void on_committed() noexcept;
    void publish() noexcept KEVRING_REQUIRES(mutex_);
    unsigned place_ready() noexcept KEVRING_REQUIRES(mutex_);
    void release_committed(std::uint64_t committed) noexcept KEVRING_REQUIRES(mutex_);
    void forget_published(registration& entry) noexcept KEVRING_REQUIRES(mutex_);
    void wake_for_published(unsigned count) noexcept KEVRING_REQUIRES(mutex_);
    void set_control_of_ring() noexcept KEVRING_REQUIRES(mutex_);
    void show_published() noexcept KEVRING_REQUIRES(mutex_);

    // Constant after construction.
    const std::unique_ptr<port> port_;
    const std::string_view port_reason_;
    const bool publishes_;

    // Written on any thread.
    std::atomic<std::uint64_t> next_id_{1};
    std::atomic<int> control_number_{-1};  // the number that release_control() has returned

    std::atomic<bool> wants_commit_{false};   // the next commit has something to publish
    std::atomic<bool> has_interrupt_{false};  // interrupt_requested_, with a driver
    ring_gate gate_;                          // of calls that use the ring without the lock

    // Constant after construction but for its positions, which commit() moves without the lock.
    std::optional<caller_ring> ring_;

    thread_mutex mutex_;
    ready_list ready_ KEVRING_GUARDED_BY(mutex_);
    // Ready again, while their last record in the ring is not committed.
    ready_list held_ KEVRING_GUARDED_BY(mutex_);
    // With a driver: by slot of the ring.
    std::vector<registration*> slot_owners_ KEVRING_GUARDED_BY(mutex_);
    // Owners of earlier positions are not held.
    std::uint64_t released_ KEVRING_GUARDED_BY(mutex_) = 0;
    bool port_is_readable_ KEVRING_GUARDED_BY(mutex_) = false;  // with a driver
    bool is_closed_ KEVRING_GUARDED_BY(mutex_) = false;
    watch_set watches_ KEVRING_GUARDED_BY(mutex_);
    queue_timers timers_ KEVRING_GUARDED_BY(mutex_);
    std::array<std::weak_ptr<void>, event_type_count> shared_ KEVRING_GUARDED_BY(mutex_);
    waiter_list waiters_ KEVRING_GUARDED_BY(mutex_);
    bool interrupt_requested_ KEVRING_GUARDED_BY(mutex_) = false;
    // Numbers the fetches, and the calls that collect.
    std::uint64_t fetch_number_ KEVRING_GUARDED_BY(mutex_) = 0;
    unsigned calls_since_fetch_ KEVRING_GUARDED_BY(mutex_) = 0;
    unsigned records_since_fetch_ KEVRING_GUARDED_BY(mutex_) = 0;
    // Waiting calls that wait without a poll before.
    unsigned polls_to_skip_ KEVRING_GUARDED_BY(mutex_) = 0;
    unsigned polls_in_vain_ KEVRING_GUARDED_BY(mutex_) = 0;
    // Last: its destruction uses the other members.
    registration_table registrations_ KEVRING_GUARDED_BY(mutex_);
};

}  // namespace kevring::detail
