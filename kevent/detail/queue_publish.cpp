// queue_publish.cpp: a queue whose driver publishes records into the ring as events complete.
//
// Publication is collection: a record that is in the ring is no longer ready, and no call is needed
// to move it there. Consumers read the ring without a lock. They sleep in the wait list, where each
// published record wakes one of them.
//
// A registration has at most one record in the ring that is not committed. If it is ready again
// before, it is held, and placed by the thread that commits.
//
// Spec: 5.5, 5.6, 6.4; docs/design/0040-kevent-queue.md.
#include <kevring/kevent/detail/queue_core.hpp>

#include <kevring/kevent/detail/call_guard.hpp>
#include <kevring/runtime/clock.hpp>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <utility>

namespace kevring::detail {

// The time that a consumer is in the wait list. If its thread is cancelled, the record that it was
// woken for is for another one.
class queue_core::published_wait {
public:
    published_wait(queue_core& queue, const wait_condition& condition) noexcept
        KEVRING_REQUIRES(queue.mutex_)
        : self(condition), queue_(queue) {
        queue.waiters_.add(self);
    }
    published_wait(const published_wait&) = delete;
    published_wait& operator=(const published_wait&) = delete;
    ~published_wait() {
        queue_.mutex_.assert_held();  // a cancelled sleep has locked it again
        self.unlink();
        if (finished) return;
        if (self.is_notified) queue_.wake_for_published(1);
        queue_.show_published();  // records were no reason for it while this thread waited
    }

    // The result of wake_signal::wait(). Cancelled, it has the lock again when the stack is unwound.
    int sleep(lock& held, const timespec& deadline) {
        struct unlocked {
            // Clang cannot follow the caller's lock through a reference.
            explicit unlocked(lock& held) noexcept KEVRING_UNCHECKED_LOCKS : held(held) {
                held.unlock();
            }
            ~unlocked() KEVRING_UNCHECKED_LOCKS { held.lock(); }
            lock& held;
        };
        const unlocked sleeping(held);
        const cancellation_point cancellation_point;
        return self.signal.wait(deadline);
    }

    waiter self;
    bool finished = false;

private:
    queue_core& queue_;
};

// Publishing. Under the lock.

void queue_core::close() noexcept {
    gate_.close();  // first: a thread that is woken below must find it closed
    const lock held(mutex_);
    is_closed_ = true;
    if (publishes_) {
        wake_for_published(UINT_MAX);
    } else {
        notify_waiters();  // each that ends wakes the next
    }
}

void queue_core::publish_events() noexcept {
    const lock held(mutex_);
    fetch_all_events();
    notify_waiters();
}

// Places the records that are ready, and wakes a consumer for each. A record that stays, for want of
// a slot or of a commit, is placed by the next commit.
void queue_core::publish() noexcept {
    if (is_closed_) return;
    ++fetch_number_;  // the last check of a record is that of its publication
    unsigned count = 0;
    while (true) {
        const std::uint64_t committed = ring_->positions().consumer;
        release_committed(committed);
        count += place_ready();
        set_control_of_ring();
        const bool wants = !ready_.empty() || !held_.empty() || port_is_readable_;
        // seq_cst: pairs with on_committed(). Either the committing thread reads this, or its
        // commit is read here.
        wants_commit_.store(wants, std::memory_order_seq_cst);
        if (!wants || ring_->committed() == committed) break;
    }
    has_interrupt_.store(interrupt_requested_, std::memory_order_relaxed);
    if (interrupt_requested_) ++count;
    wake_for_published(count);
}

unsigned queue_core::place_ready() noexcept {
    unsigned count = 0;
    // Not ring_->is_full(): a slot that was committed since may have an owner that is held.
    const std::uint64_t end = released_ + ring_->slot_count() - 1;
    while (!ready_.empty() && ring_->next_position() != end) {
        registration& entry = ready_.front();
        if (entry.is_published && entry.position >= released_) {
            ready_.remove(entry);
            held_.push_back(entry);
            entry.is_held = true;
            continue;
        }
        if (needs_last_check(entry)) {
            // One poll(2) for all that there is space for; those that are held come later.
            drop_stale(static_cast<unsigned>(end - ring_->next_position()));
            continue;
        }
        const std::uint64_t position = ring_->next_position();
        registration*& owner = slot_owners_[slot_of(position, ring_->slot_count())];
        owner = nullptr;
        const bool stays = !entry.has(KEVENT_REQ_ONESHOT);
        ukevent record;
        if (!collect_one(record)) continue;
        if (stays) {
            owner = &entry;
            entry.position = position;
            entry.is_published = true;
        }
        ring_->place(record);
        ++count;
    }
    return count;
}

// Registrations whose record was committed are published again.
void queue_core::release_committed(std::uint64_t committed) noexcept {
    const std::uint64_t slot_count = ring_->slot_count();
    if (held_.empty()) released_ = committed;
    if (committed - released_ > slot_count) released_ = committed - slot_count;
    for (; released_ != committed; ++released_) {
        registration* const owner = slot_owners_[slot_of(released_, ring_->slot_count())];
        if (owner == nullptr || !owner->is_held || owner->position != released_) continue;
        held_.remove(*owner);
        owner->is_held = false;
        ready_.push_back(*owner);
    }
}

void queue_core::forget_published(registration& entry) noexcept {
    if (std::exchange(entry.is_held, false)) held_.remove(entry);
    if (!entry.is_published) return;
    registration*& owner = slot_owners_[slot_of(entry.position, ring_->slot_count())];
    if (owner == &entry) owner = nullptr;
}

// A thread that sleeps, and for which the records suffice, will take them, and needs no descriptor.
void queue_core::set_control_of_ring() noexcept {
    const std::uint32_t filled = ring_->filled();
    const bool has_records = filled != 0;
    if (has_records && !interrupt_requested_ && waiters_.find_thread([&](const waiter& other) {
            return other.condition.min_count <= filled;
        }) != nullptr)
        return;
    port_is_readable_ = has_records || interrupt_requested_;
    port_->set_readable(port_is_readable_);
}

// One thread for each of `count` new records. A thread that was woken, and has not run since, is for
// an earlier one.
void queue_core::wake_for_published(unsigned count) noexcept {
    const std::uint32_t filled = ring_->filled();
    const auto can_use = [&](const waiter& other) {
        mutex_.assert_held();
        return !other.is_notified &&
               (interrupt_requested_ || is_closed_ || filled >= other.condition.min_count);
    };
    for (; count != 0; --count) {
        waiter* const next = waiters_.find_thread(can_use);
        if (next == nullptr) return;
        next->is_notified = true;
        next->signal.notify();
    }
}

// Consuming. Without the lock, as long as there are records.

// Any thread that has moved the committed position.
void queue_core::on_committed() noexcept {
    // seq_cst: pairs with publish().
    if (!wants_commit_.load(std::memory_order_seq_cst)) return;
    const lock held(mutex_);
    notify_waiters();
}

// Sleeps until the ring has `min_count` records. True: the call is over, whatever there is.
bool queue_core::sleep_until_published(unsigned min_count, wait_limit& limit) {
    if (is_non_blocking()) return true;
    lock held(mutex_);
    limit.begin();
    wait_condition condition;
    condition.min_count = min_count;
    published_wait in_list(*this, condition);
    bool over = false;
    while (!over && !interrupt_requested_ && !is_closed_ && ring_->filled() < min_count) {
        show_published();
        const std::int64_t left_ns = remaining_ns(limit);
        int result = 0;
        if (left_ns > 0) {
            const std::int64_t slice_ns = slice_of(limit, left_ns);
            result = in_list.sleep(held, timespec_of(add_ns(now_ns(), nanoseconds(slice_ns))));
        }
        over = result == -EINTR || (result == 0 && remaining_ns(limit) <= 0);
        // Last: what it was woken for is there by now, or was taken by another thread.
        in_list.self.is_notified = false;
    }
    in_list.finished = true;
    in_list.self.unlink();
    return end_interrupt() || over || is_closed_;
}

// An interrupt is for one call, whether that sleeps or not.
bool queue_core::end_interrupt() noexcept {
    has_interrupt_.store(false, std::memory_order_relaxed);
    const bool interrupted = std::exchange(interrupt_requested_, false);
    show_published();
    return interrupted;
}

// The control descriptor follows the records and the threads that wait for them, without a
// publication.
void queue_core::show_published() noexcept {
    set_control_of_ring();
    if (!port_is_readable_) return;
    // seq_cst: pairs with on_committed(). The commit that empties the ring reads this, or its
    // effect is read here; else the control descriptor would stay readable.
    wants_commit_.store(true, std::memory_order_seq_cst);
    if (ring_->filled() == 0) set_control_of_ring();
}

bool queue_core::take_published_interrupt() noexcept {
    if (!has_interrupt_.load(std::memory_order_relaxed)) return false;
    const lock held(mutex_);
    return end_interrupt();
}

int queue_core::wait_for_published(unsigned max_count, unsigned old_uidx, wait_limit limit) {
    const bool over = take_published_interrupt() || limit.clock == wait_limit::kind::never ||
                      ring_->is_stale(old_uidx);
    if (!over && ring_->filled() == 0) sleep_until_published(1, limit);
    if (const ring_gate::use use(gate_); !use.is_open) return -EBADF;
    return static_cast<int>(std::min(ring_->filled(), max_count));
}

int queue_core::take_published(unsigned min_count, unsigned max_count, wait_limit limit,
                               ukevent* buffer) {
    const unsigned wanted = std::min({min_count, max_count, ring_->slot_count() - 1});
    bool over = limit.clock == wait_limit::kind::never || wanted == 0;
    over = take_published_interrupt() || over;
    while (true) {
        if (!over && ring_->filled() < wanted) over = sleep_until_published(wanted, limit);
        std::size_t count = 0;
        {
            const ring_gate::use use(gate_);
            if (!use.is_open) return -EBADF;
            count = ring_->take({buffer, max_count});
        }
        if (count != 0) on_committed();
        if (count != 0 || over) return static_cast<int>(count);
    }
}

}  // namespace kevring::detail
