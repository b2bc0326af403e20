// queue_collect.cpp: how calls of a queue wait, and how records are collected.
#include <kevring/kevent/detail/queue_core.hpp>

#include <kevring/kevent/detail/call_guard.hpp>
#include <kevring/runtime/kernel.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <optional>
#include <utility>

#include <time.h>

namespace kevring::detail {
namespace {

constexpr unsigned batch_max = port::batch_max;

// A program that always has as many records ready as it asks for polls the kernel this often.
constexpr unsigned calls_without_fetch_max = 16;

// Edges of the port itself (wake, readable, timer) that can be among those of one poll.
constexpr unsigned own_edges_max = 3;

// A wait on the realtime clock sleeps at most this long, to follow a clock that is set.
constexpr std::int64_t realtime_slice_ns = 1'000'000'000;

// A waiter that cannot use a record leaves the wake-up to another one for this long.
constexpr std::chrono::milliseconds handoff_grace{1};

std::int64_t realtime_ns() noexcept {
    timespec now{};
    ::clock_gettime(CLOCK_REALTIME, &now);
    return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

// How long a wait may last from now on; no value: without limit.
std::optional<std::int64_t> remaining_ns(wait_limit limit) noexcept {
    switch (limit.clock) {
        case wait_limit::kind::forever: return std::nullopt;
        case wait_limit::kind::steady: return limit.deadline_ns - kernel::real().steady_ns();
        case wait_limit::kind::realtime: return limit.deadline_ns - realtime_ns();
        case wait_limit::kind::never: break;
    }
    return 0;
}

}  // namespace

// The time that a waiter spends asleep, without the lock. It may end by the cancellation of the
// thread, whose stack is unwound then: edges that the kernel has reported are not lost, and a
// wake-up that was meant for this waiter is passed to the next.
class queue_core::sleep {
public:
    sleep(queue_core& queue, lock& held, waiter& self, unsigned capacity) noexcept
        : queue_(queue), held_(held), self_(self), capacity_(capacity) {
        for (unsigned i = 0; i < capacity; ++i) edges_[i].tag = port::none;
        queue_.port_->set_readable(false);
        queue_.timers_.arm();  // it may have expired for an edge that this call has dropped since
        queue_.waiters_.add(self_);
        held_.unlock();
    }
    sleep(const sleep&) = delete;
    sleep& operator=(const sleep&) = delete;

    ~sleep() {
        held_.lock();
        self_.unlink();
        std::size_t count = 0;
        while (count < capacity_ && edges_[count].tag != port::none) ++count;
        queue_.dispatch_events(std::span(edges_).first(count));
        if (!finished) queue_.notify_waiters();  // cancelled: the call ends here
    }

    std::span<edge> edges() noexcept { return std::span(edges_).first(capacity_); }

    bool finished = false;

private:
    queue_core& queue_;
    lock& held_;
    waiter& self_;
    const unsigned capacity_;
    std::array<edge, batch_max> edges_;
};

// Waiting.

bool queue_core::satisfied(const waiter& self) const noexcept {
    return interrupt_requested_ || has_enough(self);
}

bool queue_core::has_enough(const waiter& self) const noexcept {
    if (!self.needs_space) return ready_.size() >= self.min_count;
    return (!ready_.empty() && !ring_->is_full()) || ring_->is_stale(self.old_uidx);
}

// Records that a call can still use in addition to those that are ready.
unsigned queue_core::room_for(unsigned capacity) const noexcept {
    return capacity > ready_.size() ? static_cast<unsigned>(capacity - ready_.size()) : 0u;
}

// Wakes one waiting thread for the records that are ready; it wakes the next if it leaves some.
// False: no thread can use them.
bool queue_core::wake_next(const waiter* except) noexcept {
    const auto is_satisfied = [this](const waiter& other) { return satisfied(other); };
    if (waiters_.find_thread(except, is_satisfied) == nullptr) return false;
    port_->wake_one();
    return true;
}

// Last in every call: waiters, the control descriptor and the port's timer follow its changes.
void queue_core::notify_waiters() noexcept {
    if (waiters_.has_threads()) {
        wake_next(nullptr);
    } else {
        port_->set_readable(!ready_.empty() || interrupt_requested_);
    }
    // The control descriptor is readable already if too few were ready before: this makes an edge.
    if (!ready_.empty() && waiters_.has_coroutine_for(ready_.size())) port_->wake_one();
    timers_.arm();
}

// Hot path: no allocation and no system call.
void queue_core::dispatch_events(std::span<const edge> edges) noexcept {
    watches_.prefetch(edges);
    for (const edge& report : edges) {
        if (report.tag >= port::first_free)
            watches_.dispatch(report);
        else if (report.tag == port::timer)
            timers_.on_expired();
    }
}

int queue_core::fetch_events(unsigned capacity) noexcept {
    std::array<edge, batch_max> edges;
    const int count = port_->poll(std::span(edges).first(capacity));
    if (count > 0) dispatch_events(std::span(edges).first(static_cast<std::size_t>(count)));
    return count;
}

int queue_core::sleep_in_port(lock& held, waiter& self, unsigned capacity,
                              const timespec* timeout) {
    sleep asleep(*this, held, self, std::clamp(capacity, 1u, batch_max));
    int count = 0;
    {
        const cancelled_here cancellation_point;
        count = port_->wait(asleep.edges(), timeout);
    }
    asleep.finished = true;
    return count;
}

// Fetches edges until a record is ready or none are left: an edge may turn out to be spurious, and
// precede one that is not. Each registration has one edge at most, and the port has its own: that
// bounds the loop.
void queue_core::poll_events(unsigned capacity) noexcept {
    constexpr std::size_t shared_edges_max = own_edges_max + 1;  // and the one that INODE shares
    for (std::size_t round = 0; round <= registrations_.size() + shared_edges_max; ++round) {
        const unsigned wanted = std::clamp(room_for(capacity), 1u, batch_max);
        const int count = fetch_events(wanted);
        while (ready_.empty() && timers_.expire_rest()) {}
        if (count < static_cast<int>(wanted) || !ready_.empty()) break;
    }
}

// Polls the kernel if the call can use more records than are ready, and waits if it must. Returns
// true if the call is over, whatever is ready; false if it has to wait again in case all records
// fail their last check.
bool queue_core::poll_or_wait(lock& held, waiter& self, unsigned capacity, wait_limit& limit) {
    // An interrupt that came while others wait is for one of them.
    const bool interrupted = interrupt_requested_ && !waiters_.has_threads();
    const bool never = limit.clock == wait_limit::kind::never;
    bool over = interrupted || never;
    if (over || has_enough(self)) {
        if (room_for(capacity) != 0 || ++calls_since_fetch_ >= calls_without_fetch_max) {
            calls_since_fetch_ = 0;
            poll_events(capacity);
        }
        if (interrupted) interrupt_requested_ = false;
        over = over || self.min_count == 0;
    } else {
        over = wait_until_ready(held, self, capacity, limit);
    }
    if (over) limit = wait_limit::no_wait();
    return over;
}

// Waits until `self` is satisfied, the limit has passed, or a signal handler has run. Takes from
// the kernel no more edges than the caller can use: the others stay there and keep the control
// descriptor readable.
bool queue_core::wait_until_ready(lock& held, waiter& self, unsigned capacity, wait_limit limit) {
    bool over = false;
    while (!over) {
        const std::optional<std::int64_t> left_ns = remaining_ns(limit);
        timespec timeout{};
        if (left_ns) {
            std::int64_t slice_ns = std::max<std::int64_t>(*left_ns, 0);
            if (limit.clock == wait_limit::kind::realtime)
                slice_ns = std::min(slice_ns, realtime_slice_ns);
            timeout.tv_sec = slice_ns / 1'000'000'000;
            timeout.tv_nsec = slice_ns % 1'000'000'000;
        }
        const int count =
            sleep_in_port(held, self, room_for(capacity), left_ns ? &timeout : nullptr);
        over = count == -EINTR;
        if (left_ns && *remaining_ns(limit) <= 0) over = true;
        if (over && ready_.empty()) poll_events(capacity);
        if (satisfied(self)) break;
        // Another waiter may use what this call cannot; it gets time to take the wake-up.
        if (count > 0 && waiters_.has_threads() && wake_next(&self)) {
            handoff_done_.wait_for(held, handoff_grace);
            if (satisfied(self)) break;
        }
        notify_waiters();
    }
    handoff_done_.notify_one();
    return std::exchange(interrupt_requested_, false) || over;
}

// Collecting.

// Takes the first ready record off the list; false if a last check dropped it.
bool queue_core::collect_one(ukevent& target) noexcept {
    registration& entry = ready_.front();
    ready_.remove(entry);
    const bool checks = entry.has(KEVENT_REQ_LAST_CHECK);
    if (checks && entry.tested_in_call != call_number_) {
        const readiness state = entry.broken ? readiness::broken : entry.event_source->test();
        if (state == readiness::not_ready) {
            rearm(entry);
            return false;
        }
        if (state == readiness::broken) {
            mark_broken(entry);
            ready_.remove(entry);
        }
    }
    if (!entry.broken && !entry.event_source->before_collect()) {
        rearm(entry);
        return false;
    }
    target = entry.record;
    if (checks) target.req_flags &= ~static_cast<std::uint32_t>(KEVENT_REQ_LAST_CHECK);
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
        ukevent record;
        if (!collect_one(record)) continue;
        ring_->place(record);
        ++count;
    }
    return count;
}

int queue_core::get_events(unsigned min_count, unsigned max_count, wait_limit limit,
                           ukevent* buffer) {
    if (max_count == 0) return 0;
    lock held(mutex_);
    ++call_number_;
    waiter self;
    self.min_count = std::min(min_count, max_count);
    unsigned count = 0;
    for (bool more = true; more && count == 0;) {
        // Records that all fail their last check precede others that do not.
        more = !poll_or_wait(held, self, max_count, limit) || !ready_.empty();
        count = collect_into_buffer(max_count, buffer);
    }
    notify_waiters();
    return static_cast<int>(count);
}

int queue_core::wait(unsigned max_count, unsigned old_uidx, wait_limit limit) {
    lock held(mutex_);
    ++call_number_;
    waiter self;
    self.needs_space = true;
    self.old_uidx = old_uidx;
    unsigned count = 0;
    for (bool more = true; more && count == 0;) {
        bool over = poll_or_wait(held, self, max_count, limit);
        over = over || max_count == 0 || ring_->is_stale(old_uidx);
        if (over) limit = wait_limit::no_wait();
        more = !over || (!ready_.empty() && max_count != 0 && !ring_->is_full());
        count = collect_into_ring(max_count);
    }
    notify_waiters();
    return static_cast<int>(count);
}

int queue_core::collect_or_wait(async_waiter& self, unsigned max_count, ukevent* buffer) {
    const lock held(mutex_);
    ++call_number_;
    self.unlink();
    unsigned count = 0;
    bool fetches = room_for(max_count) != 0 || ++calls_since_fetch_ >= calls_without_fetch_max;
    while (count == 0) {
        while (fetches) {
            calls_since_fetch_ = 0;
            const unsigned room = std::max(room_for(max_count), 1u);
            const unsigned wanted = std::min(room, batch_max - own_edges_max) + own_edges_max;
            fetches = fetch_events(wanted) == static_cast<int>(wanted) && room_for(max_count) != 0;
        }
        if (ready_.empty() || ready_.size() < self.min_count) break;
        count = collect_into_buffer(max_count, buffer);
        fetches = true;  // all have failed their last check
    }
    if (count == 0) waiters_.add(self);
    notify_waiters();
    return static_cast<int>(count);
}

void queue_core::cancel_wait(async_waiter& self) noexcept {
    const lock held(mutex_);
    self.unlink();
}

int queue_core::commit(unsigned new_uidx, unsigned over) {
    if (!ring_) return 0;
    const int freed = ring_->commit(new_uidx, over);
    if (freed > 0) {
        const lock held(mutex_);
        notify_waiters();  // waiters for space, or with a stale index, continue
    }
    return freed;
}

}  // namespace kevring::detail
