// queue_collect.cpp: waiting calls of a queue, and the collection of records.
#include <kevring/kevent/detail/queue_core.hpp>

#include <kevring/kevent/detail/call_guard.hpp>
#include <kevring/kevent/detail/control_identity.hpp>
#include <kevring/kevent/detail/wait_limit.hpp>
#include <kevring/runtime/clock.hpp>
#include <kevring/runtime/kernel.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include <poll.h>
#include <time.h>

namespace kevring::detail {
namespace {

constexpr unsigned batch_max = port::batch_max;

// A program that always has as many records ready as it asks for polls the kernel at least once per
// this number of calls or records, so that its own events do not delay those of the kernel.
constexpr unsigned calls_without_fetch_max = 8;
constexpr unsigned records_without_fetch_max = 64;

// A waiting call polls before it sleeps, which saves a system call if an edge is pending. After a
// poll in vain the next calls sleep without it.
constexpr unsigned polls_to_skip_max = 8;

// Edges of the port itself (wake, readable, timer) that can be among those of one poll.
constexpr unsigned own_edges_max = 3;

}  // namespace

// The time that a thread is in the wait list, with and without the lock. It may end by the
// cancellation of the thread, whose stack is unwound then: a wake-up that was meant for it, or the
// lead, passes to another thread.
class queue_core::waiting {
public:
    waiting(queue_core& queue, const wait_condition& condition) noexcept
        KEVRING_REQUIRES(queue.mutex_)
        : self(condition), queue_(queue) {
        queue.waiters_.add(self);
    }
    waiting(const waiting&) = delete;
    waiting& operator=(const waiting&) = delete;
    ~waiting() {
        queue_.mutex_.assert_held();  // a cancelled sleep has locked it again
        self.unlink();
        if (!finished) queue_.notify_waiters();
    }

    waiter self;
    bool finished = false;

private:
    queue_core& queue_;
};

// One sleep of a waiting thread, without the lock. It unlocks the lock of its caller and locks it again
// on destruction, which clang cannot follow through a reference.
class queue_core::sleep {
public:
    sleep(queue_core& queue, lock& held, waiter& self, bool leads) noexcept KEVRING_UNCHECKED_LOCKS
        : queue_(queue),
          held_(held),
          self_(self),
          leads_(leads) {
        if (leads_) queue_.waiters_.set_leader(&self_);
        held_.unlock();
    }
    sleep(const sleep&) = delete;
    sleep& operator=(const sleep&) = delete;
    ~sleep() KEVRING_UNCHECKED_LOCKS {
        held_.lock();
        if (leads_) queue_.waiters_.set_leader(nullptr);
        self_.is_notified = false;
    }

private:
    queue_core& queue_;
    lock& held_;
    waiter& self_;
    const bool leads_;
};

// Waiting.

bool queue_core::satisfied(const wait_condition& condition) const noexcept {
    return interrupt_requested_ || is_closed_ || has_enough(condition);
}

bool queue_core::has_enough(const wait_condition& condition) const noexcept {
    if (!condition.needs_space) return ready_.size() >= condition.min_count;
    return (!ready_.empty() && !ring_->is_full()) || ring_->is_stale(condition.old_uidx);
}

// True if a call has something to collect, and a place for it.
bool queue_core::can_collect(const wait_condition& condition, unsigned capacity) const noexcept {
    return !ready_.empty() && capacity != 0 && !(condition.needs_space && ring_->is_full());
}

// Records that a call can still use in addition to those that are ready.
unsigned queue_core::room_for(unsigned capacity) const noexcept {
    return capacity > ready_.size() ? static_cast<unsigned>(capacity - ready_.size()) : 0u;
}

// Wakes one waiting thread for the records that are ready; it wakes the next if it leaves some. A
// thread that can use none is woken if there is no other leader. `self` waits, is awake, and leads
// next if there is no leader. Result: a thread runs that will use the records.
bool queue_core::wake_next(const waiter* self) noexcept {
    waiter* const leader = waiters_.leader();
    const auto is_notified = [](const waiter& other) { return other.is_notified; };
    if (waiters_.find_thread(is_notified) != nullptr) return true;
    // The leader last: a thread that wakes up and does not lead costs one wake-up less.
    const auto follows = [&](const waiter& other) {
        mutex_.assert_held();
        return &other != self && &other != leader && satisfied(other.condition);
    };
    waiter* next = waiters_.find_thread(follows);
    if (next == nullptr && leader != nullptr && satisfied(leader->condition)) {
        leader->is_notified = true;
        port_->wake_one();
        return true;
    }
    const bool uses_records = next != nullptr;
    if (next == nullptr && leader == nullptr && self == nullptr)
        next = waiters_.find_thread([](const waiter&) { return true; });
    if (next != nullptr) {
        next->is_notified = true;
        next->signal.notify();
    }
    return uses_records;
}

// Last in every call, and before each sleep of `self`: the kernel, waiters, the control descriptor
// and the port's timer follow the changes.
void queue_core::notify_waiters(const waiter* self) noexcept {
    port_->flush();
    if (publishes_) {
        publish();
        timers_.arm();
        return;
    }
    const bool is_readable = !ready_.empty() || interrupt_requested_;
    // A thread that will collect does not need the descriptor; it sets it for what it leaves.
    const bool is_collected = waiters_.has_threads() && wake_next(self);
    if (!is_readable || !is_collected) port_->set_readable(is_readable);
    // The control descriptor is readable already if too few were ready before: this makes an edge.
    if (!ready_.empty() && waiters_.has_coroutine_for(ready_.size())) port_->wake_one();
    timers_.arm();
}

// Hot path: no allocation and no system call.
void queue_core::dispatch_events(std::span<const edge> edges) noexcept {
    watches_.prefetch(edges);
    for (const edge& report : edges) {
        if (report.tag >= port::first_free) {
            watches_.dispatch(report);
        } else if (report.tag == port::timer) {
            timers_.on_expired();
        } else if (report.tag == port::wake && waiters_.leader() != nullptr) {
            // It was meant for the leader, which may have slept on: this call wakes it again.
            waiters_.leader()->is_notified = false;
        }
    }
}

int queue_core::fetch_events(unsigned capacity) noexcept {
    std::array<edge, batch_max> edges;
    ++fetch_number_;
    const int count = port_->poll(std::span(edges).first(capacity));
    if (count > 0) dispatch_events(std::span(edges).first(static_cast<std::size_t>(count)));
    timers_.expire();
    return count;
}

// Fetches edges until a record is ready or none are left: an edge may turn out to be spurious, and
// precede one that is not. Each registration has one edge at most, and the port has its own: that
// bounds the loop. While no record is ready, it takes no more edges than the caller can use: the
// others stay in the kernel, for other threads, and keep the control descriptor readable. Otherwise
// it takes a batch, because those edges came before the next record that the program makes ready.
// Of a port that reports past states it takes all: an edge that came before a record is collected
// must not make it ready again afterwards.
void queue_core::poll_events(unsigned capacity) noexcept {
    constexpr std::size_t shared_edges_max = own_edges_max + 1;  // and the one that INODE shares
    const bool takes_few_edges = port_->reports_present_state();
    calls_since_fetch_ = records_since_fetch_ = 0;
    port_->update();
    for (std::size_t round = 0; round <= registrations_.size() + shared_edges_max; ++round) {
        const bool takes_few = takes_few_edges && ready_.empty();
        const unsigned wanted = takes_few ? std::clamp(capacity, 1u, batch_max) : batch_max;
        const int count = fetch_events(wanted);
        while (ready_.empty() && timers_.expire()) {}
        if (count < static_cast<int>(wanted) || (takes_few_edges && !ready_.empty())) break;
    }
}

// Fetches all edges that are pending.
void queue_core::fetch_all_events() noexcept {
    const std::size_t round_max = registrations_.size() / batch_max + 2;
    port_->update();
    for (std::size_t round = 0; round < round_max; ++round)
        if (fetch_events(batch_max) < static_cast<int>(batch_max)) break;
}

// The one poll of a call, before it sleeps or collects.
void queue_core::fetch_if_useful(const wait_condition& condition, unsigned capacity,
                                 bool waits) noexcept {
    if (!waits) {
        ++calls_since_fetch_;
        if (room_for(capacity) != 0 || calls_since_fetch_ >= calls_without_fetch_max ||
            records_since_fetch_ >= records_without_fetch_max || !port_->reports_present_state())
            poll_events(capacity);
        return;
    }
    if (polls_to_skip_ != 0) {
        --polls_to_skip_;
        return;
    }
    poll_events(capacity);
    if (has_enough(condition)) {
        polls_in_vain_ = 0;
    } else {
        polls_to_skip_ = std::min(++polls_in_vain_, polls_to_skip_max);
    }
}

int queue_core::sleep_until(lock& held, waiter& self, std::int64_t left_ns) {
    const bool leads = waiters_.leader() == nullptr;
    const timespec time =
        timespec_of(leads ? left_ns : add_ns(kernel::real().steady_ns(), nanoseconds(left_ns)));
    const sleep asleep(*this, held, self, leads);
    const cancellation_point cancellation_point;
    return leads ? port_->wait(&time) : self.signal.wait(time);
}

// Waits until the condition holds, the limit has passed, or a signal handler has run; true: the
// call is over, whatever is ready.
bool queue_core::wait_until_ready(lock& held, const wait_condition& condition, unsigned capacity,
                                  wait_limit limit) {
    if (is_non_blocking()) {
        poll_events(capacity);
        return true;
    }
    limit.begin();
    waiting in_list(*this, condition);
    bool over = false;
    while (!over && !satisfied(condition)) {
        // Those that are pending would not end a wait() while the control descriptor is readable.
        if (!ready_.empty() && waiters_.leader() == nullptr) {
            fetch_all_events();
            drop_stale(capacity);
            if (satisfied(condition)) break;
        }
        notify_waiters(&in_list.self);
        const std::int64_t left_ns = remaining_ns(limit);
        int result = 0;
        if (left_ns > 0) result = sleep_until(held, in_list.self, slice_of(limit, left_ns));
        over = result == -EINTR || (result == 0 && remaining_ns(limit) <= 0);
        if (over || waiters_.leader() == nullptr)
            poll_events(capacity);
        else
            ++fetch_number_;  // what another thread has tested before this one slept may be stale
        if (condition.min_count > 1 && has_enough(condition)) drop_stale(capacity);
    }
    in_list.finished = true;
    return std::exchange(interrupt_requested_, false) || over;
}

// Collecting.

// Nothing is delivered: a one-shot is armed again.
void queue_core::rearm(registration& entry) noexcept {
    entry.record.ret_flags = 0;
    entry.record.ret_data[0] = entry.record.ret_data[1] = 0;
    if (!entry.armed) arm_or_break(entry);
}

bool queue_core::needs_last_check(const registration& entry) const noexcept {
    return entry.has(KEVENT_REQ_LAST_CHECK) && entry.tested_in_fetch != fetch_number_;
}

// The last check of a registration that is not in the ready list. False: it is armed again.
bool queue_core::passes_last_check(registration& entry) noexcept {
    if (!needs_last_check(entry)) return true;
    return end_last_check(entry,
                          entry.broken ? readiness::broken : entry.event_source->last_check());
}

bool queue_core::end_last_check(registration& entry, readiness state) noexcept {
    if (state == readiness::not_ready) {
        rearm(entry);
        return false;
    }
    if (state == readiness::broken) {
        mark_broken(entry);
        ready_.remove(entry);
    }
    entry.tested_in_fetch = fetch_number_;
    return true;
}

// Removes records that fail their last check from the first `capacity` that are ready, so that they
// do not count as ready for a call that waits for several.
void queue_core::drop_stale(unsigned capacity) noexcept {
    std::size_t left = std::min<std::size_t>(ready_.size(), capacity);
    registration* entry = left != 0 ? &ready_.front() : nullptr;
    while (left != 0) {
        const std::size_t count = std::min<std::size_t>(left, batch_max);
        entry = drop_stale_batch(*entry, count);
        left -= count;
    }
}

// The same for `count` records of the list, from `first` on. One poll(2) asks for all their
// descriptors. Returns the record after them.
registration* queue_core::drop_stale_batch(registration& first, std::size_t count) noexcept {
    std::array<pollfd, batch_max> questions;
    std::array<registration*, batch_max> asked;
    unsigned question_count = 0;
    registration* entry = &first;
    for (std::size_t left = count; left != 0; --left) {
        registration* const next = ready_.after(*entry);
        if (needs_last_check(*entry)) {
            const pollfd question =
                entry->broken ? pollfd{-1, 0, 0} : entry->event_source->poll_question();
            if (question.fd >= 0) {
                asked[question_count] = entry;
                questions[question_count++] = question;
            } else {
                ready_.remove(*entry);
                if (passes_last_check(*entry)) ready_.insert_before(*entry, next);
            }
        }
        entry = next;
    }
    if (question_count == 0) return entry;
    const bool polled = kernel::real().poll_nowait(questions.data(), question_count) >= 0;
    for (unsigned i = 0; i < question_count; ++i) {
        registration& checked = *asked[i];
        registration* const next = ready_.after(checked);
        source& origin = *checked.event_source;
        ready_.remove(checked);
        const readiness state =
            polled ? origin.test_by_answer(static_cast<std::uint16_t>(questions[i].revents))
                   : origin.last_check();
        if (end_last_check(checked, state)) ready_.insert_before(checked, next);
    }
    return entry;
}

// Takes the first ready record off the list; false if a last check dropped it.
bool queue_core::collect_one(ukevent& target) noexcept {
    registration& entry = ready_.front();
    ready_.remove(entry);
    if (!passes_last_check(entry)) return false;
    if (!entry.broken && !entry.event_source->before_collect()) {
        rearm(entry);
        return false;
    }
    target = entry.record;
    target.req_flags &= ~static_cast<std::uint32_t>(KEVENT_REQ_LAST_CHECK);
    if (entry.has(KEVENT_REQ_ONESHOT)) {
        drop(entry);
    } else if (!entry.broken) {
        // With ET the results are cleared; without it, no caller can see them any more.
        entry.record.ret_flags = 0;
        entry.record.ret_data[0] = entry.record.ret_data[1] = 0;
        report(entry, entry.event_source->after_collect());
    }
    return true;
}

unsigned queue_core::collect_into_buffer(unsigned max_count, ukevent* buffer) noexcept {
    unsigned count = 0;
    while (count < max_count && !ready_.empty()) {
        while (!ready_.empty() && needs_last_check(ready_.front())) drop_stale(max_count - count);
        if (ready_.empty()) break;
        ukevent& record = buffer[count];
        if (!collect_one(record)) continue;
        if (ring_ && !ring_->place(record)) record.ret_flags |= KEVENT_RET_COPY_FAILED;
        ++count;
    }
    return count;
}

unsigned queue_core::collect_into_ring(unsigned max_count) noexcept {
    unsigned count = 0;
    while (count < max_count && !ready_.empty() && !ring_->is_full()) {
        while (!ready_.empty() && needs_last_check(ready_.front())) drop_stale(max_count - count);
        if (ready_.empty()) break;
        ukevent record;
        if (!collect_one(record)) continue;
        ring_->place(record);
        ++count;
    }
    return count;
}

// True if `number` refers to the control file.
bool queue_core::end_identification(int number) noexcept {
    control_identity found = port_->end_identification();
    if (found == control_identity::unknown) found = identify_control(number, control());
    return found == control_identity::same;
}

// A call that collects: polls, waits if it must, and collects by `collect_ready`, until there is
// something or the call is over.
template <class Collect>
int queue_core::collect(const wait_condition& condition, unsigned capacity, wait_limit limit,
                        int unidentified, Collect collect_ready) {
    lock held(mutex_);
    if (is_closed_) return unidentified == identified ? -EBADF : not_identified;
    if (const int failure = port_->claim(); failure != 0)
        return unidentified == identified ? failure : not_identified;
    if (unidentified != identified) port_->begin_identification(unidentified);
    ++fetch_number_;
    bool over = limit.clock == wait_limit::kind::never || condition.min_count == 0;
    // An interrupt that comes while threads wait is for one of them.
    const bool is_interrupted = interrupt_requested_ && !waiters_.has_threads();
    over = is_interrupted || over;
    fetch_if_useful(condition, capacity, !over && !has_enough(condition));
    if (unidentified != identified && !end_identification(unidentified)) return not_identified;
    if (is_interrupted) interrupt_requested_ = false;
    if (!over && condition.min_count > 1 && has_enough(condition)) drop_stale(capacity);
    unsigned count = 0;
    while (true) {
        if (!over && !has_enough(condition))
            over = wait_until_ready(held, condition, capacity, limit);
        if (is_closed_) {      // while it slept
            notify_waiters();  // the next one ends too
            return -EBADF;
        }
        const bool collects = can_collect(condition, capacity);
        count = collects ? collect_ready() : 0;
        // A stale index ends the call, whatever is ready.
        over =
            over || capacity == 0 || (condition.needs_space && ring_->is_stale(condition.old_uidx));
        if (count != 0 || (over && !collects)) break;
        // All records have failed their last check, and may precede others that do not.
        if (collects) poll_events(capacity);
    }
    records_since_fetch_ += count;
    notify_waiters();
    return static_cast<int>(count);
}

int queue_core::get_events(unsigned min_count, unsigned max_count, wait_limit limit,
                           ukevent* buffer, int unidentified) {
    if (max_count == 0) return unidentified == identified ? 0 : not_identified;
    if (publishes_) return take_published(min_count, max_count, limit, buffer);
    wait_condition condition;
    condition.min_count = std::min(min_count, max_count);
    const auto collect_ready = [&] {
        mutex_.assert_held();  // collect() calls it
        return collect_into_buffer(max_count, buffer);
    };
    return collect(condition, max_count, limit, unidentified, collect_ready);
}

int queue_core::wait(unsigned max_count, unsigned old_uidx, wait_limit limit, int unidentified) {
    if (publishes_) return wait_for_published(max_count, old_uidx, limit);
    wait_condition condition;
    condition.needs_space = true;
    condition.old_uidx = old_uidx;
    const auto collect_ready = [&] {
        mutex_.assert_held();  // collect() calls it
        return collect_into_ring(max_count);
    };
    return collect(condition, max_count, limit, unidentified, collect_ready);
}

int queue_core::collect_or_wait(async_waiter& self, unsigned max_count, ukevent* buffer) {
    const lock held(mutex_);
    self.unlink();
    self.is_listed = false;
    ++fetch_number_;
    unsigned count = 0;
    bool fetches = room_for(max_count) != 0 || ++calls_since_fetch_ >= calls_without_fetch_max ||
                   records_since_fetch_ >= records_without_fetch_max;
    while (count == 0) {
        while (fetches) {
            calls_since_fetch_ = records_since_fetch_ = 0;
            // All that is pending, or this call's own: the loop gets an edge for the next only.
            const unsigned room = ready_.empty() ? max_count : batch_max;
            const unsigned wanted = std::min(room, batch_max - own_edges_max) + own_edges_max;
            fetches = fetch_events(wanted) == static_cast<int>(wanted) && room_for(max_count) != 0;
        }
        if (self.min_count > 1 && ready_.size() >= self.min_count) drop_stale(max_count);
        if (ready_.empty() || ready_.size() < self.min_count) break;
        count = collect_into_buffer(max_count, buffer);
        fetches = true;  // all have failed their last check
    }
    records_since_fetch_ += count;
    if (count == 0) {
        waiters_.add(self);
        self.is_listed = true;
    }
    notify_waiters();
    return static_cast<int>(count);
}

void queue_core::cancel_wait(async_waiter& self) noexcept {
    if (!self.is_listed) return;
    const lock held(mutex_);
    self.unlink();
    self.is_listed = false;
}

int queue_core::commit(unsigned new_uidx, unsigned over) {
    if (!ring_) return 0;
    int freed = 0;
    {
        const ring_gate::use use(gate_);
        if (!use.is_open) return -EBADF;
        freed = ring_->commit(new_uidx, over);
    }
    if (publishes_) {
        if (freed > 0) on_committed();
    } else if (freed > 0) {
        const lock held(mutex_);
        notify_waiters();  // waiters for space, or with a stale index, continue
    }
    return freed;
}

}  // namespace kevring::detail
