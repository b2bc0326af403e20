// queue_core.cpp: see queue_core.hpp.
#include <kevring/kevent/detail/queue_core.hpp>

#include <kevring/kevent/detail/call_guard.hpp>
#include <kevring/runtime/assert.hpp>
#include <kevring/runtime/clock.hpp>
#include <kevring/runtime/kernel.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <new>
#include <utility>

#include <time.h>

namespace kevring::detail {
namespace {

constexpr unsigned batch_max = 256;  // edges taken from the kernel in one call; 3 KiB of stack

// A program that always has as many records ready as it asks for looks at the kernel this often.
constexpr unsigned calls_unharvested_max = 16;

// A deadline on the realtime clock is looked at again after this long, to follow a clock that is
// set.
constexpr std::int64_t realtime_slice_ns = 1'000'000'000;

// How long one who cannot use a record leaves the bell to another waiter who can.
constexpr std::chrono::milliseconds head_start{1};

constexpr std::size_t timers_fired_max = 4096;

int error_number_of(const std::error_code& error) noexcept { return -error.value(); }

void answer(ukevent& record, std::uint32_t ret_flags, int error_number) noexcept {
    record.ret_flags = ret_flags;
    record.ret_data[0] = 0;
    record.ret_data[1] = static_cast<std::uint32_t>(error_number);
}

std::int64_t realtime_ns() noexcept {
    timespec now{};
    ::clock_gettime(CLOCK_REALTIME, &now);
    return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

// How long a wait may last from now on; no value: for ever.
std::optional<std::int64_t> remaining_ns(wait_limit limit) noexcept {
    switch (limit.by) {
        case wait_limit::kind::forever: return std::nullopt;
        case wait_limit::kind::steady: return limit.deadline_ns - kernel::real().steady_ns();
        case wait_limit::kind::realtime: return limit.deadline_ns - realtime_ns();
        case wait_limit::kind::never: break;
    }
    return 0;
}

}  // namespace

// The time that a waiter spends asleep, without the lock. Its end may come by the cancellation of
// the thread, whose stack is unwound then: the edges that the kernel handed over are not lost, and
// a wake that was meant for this waiter goes to the next.
class queue_core::sleep {
public:
    sleep(queue_core& queue, lock& held, waiter& by, int capacity) noexcept
        : queue_(queue), held_(held), by_(by), capacity_(capacity) {
        for (int i = 0; i < capacity; ++i)
            edges[static_cast<std::size_t>(i)].data.u64 = event_port::none;
        queue_.port_.set_level(false);
        queue_.wind_alarm();  // it may have rung for what this call has dropped since
        by_.insert_before(queue_.waiters_);
        ++queue_.sleeping_;
        held_.unlock();
    }
    sleep(const sleep&) = delete;
    sleep& operator=(const sleep&) = delete;

    ~sleep() {
        held_.lock();
        --queue_.sleeping_;
        by_.unlink();
        int count = 0;
        while (count < capacity_ &&
               edges[static_cast<std::size_t>(count)].data.u64 != event_port::none)
            ++count;
        queue_.apply(edges.data(), count);
        if (!finished) queue_.settle();  // cancelled: nobody comes after this
    }

    std::array<epoll_event, batch_max> edges;
    bool finished = false;

private:
    queue_core& queue_;
    lock& held_;
    waiter& by_;
    const int capacity_;
};

queue_core::queue_core(kevent_ring* ring, std::uint32_t ring_size)
    : watches_(port_), alarm_ns_(never_ns) {
    if (ring != nullptr) ring_.emplace(ring, ring_size);
}

std::size_t queue_core::registration_count() {
    const lock held(mutex_);
    return registrations_.size();
}

// The ready list.

void queue_core::make_ready(registration& one, std::uint32_t ret_flags) noexcept {
    one.record.ret_flags |= ret_flags;
    if (one.ready()) return;
    one.insert_before(ready_);
    ++ready_count_;
    // From now on activity of a one-shot is not noticed; it keeps its key until it is collected.
    if (one.has(KEVENT_REQ_ONESHOT) && one.armed) {
        one.origin->disarm();
        one.armed = false;
    }
}

void queue_core::unmark(registration& one) noexcept {
    if (!one.ready()) return;
    one.unlink();
    --ready_count_;
}

void queue_core::drop(registration& one) noexcept {
    unmark(one);
    registrations_.erase(one);
}

void queue_core::mark_broken(registration& one) noexcept {
    if (one.armed) {
        one.origin->disarm();
        one.armed = false;
    }
    one.dead = true;
    make_ready(one, KEVENT_RET_DONE | KEVENT_RET_BROKEN);
}

void queue_core::report(registration& of, readiness state) noexcept {
    if (state == readiness::not_ready || !of.armed) return;
    if (!of.ready()) of.fresh_call = call_;
    if (state == readiness::ready) {
        make_ready(of, KEVENT_RET_DONE);
    } else {
        mark_broken(of);
    }
}

// Control.

int queue_core::arm(registration& one) noexcept {
    try {
        if (const int failure = one.origin->arm(); failure != 0) return failure;
    } catch (const std::bad_alloc&) {
        return -ENOMEM;
    }
    one.armed = true;
    one.dead = false;
    return 0;
}

// Registers one record, or answers it: then `answered` is true and `record` is the answer. Throws
// nothing but std::bad_alloc, and then nothing is registered.
int queue_core::add_one(ukevent& record, const source_factory& make, bool& answered) {
    if (registrations_.find(record) != nullptr) return -EEXIST;

    auto one = std::make_unique<registration>();
    one->record = record;
    one->record.ret_flags = 0;
    one->record.ret_data[0] = one->record.ret_data[1] = 0;
    auto made = make(*this, *one);
    if (!made) return error_number_of(made.error());
    one->origin = std::move(*made);
    one->record.req_flags |= one->origin->forced_flags();

    const bool forced = one->has(KEVENT_REQ_READY);
    const readiness state = forced ? readiness::not_ready : one->origin->test_added();
    if (state == readiness::broken) return -EPIPE;
    if (state == readiness::ready && !one->has(KEVENT_REQ_ALWAYS_QUEUE)) {
        one->origin->collecting();
        one->record.ret_flags = KEVENT_RET_DONE;
        record = one->record;
        answered = true;
        return 0;
    }
    if (const int failure = arm(*one); failure != 0) return failure;
    registration& kept = registrations_.insert(std::move(one));
    if (forced || (state == readiness::ready && !kept.origin->arm_tests()))
        make_ready(kept, KEVENT_RET_DONE);
    else
        report(kept, kept.origin->added());
    return 0;
}

int queue_core::add(ukevent* records, unsigned count) {
    const lock held(mutex_);
    unsigned answers = 0;
    for (unsigned i = 0; i < count; ++i) {
        ukevent record = records[i];
        bool answered = false;
        int failure = 0;
        const source_row* const row = find_source_row(record.type);
        try {
            failure = row == nullptr || row->make == nullptr ? -ENOSYS
                                                             : add_one(record, row->make, answered);
        } catch (const std::bad_alloc&) {
            failure = -ENOMEM;
        }
        if (failure != 0) answer(record, KEVENT_RET_BROKEN | KEVENT_RET_DONE, failure);
        if (failure != 0 || answered) records[answers++] = record;
    }
    settle();
    return static_cast<int>(answers);
}

int queue_core::add_made(const ukevent& record, const source_factory& make) {
    const lock held(mutex_);
    ukevent request = record;
    request.req_flags |= KEVENT_REQ_ALWAYS_QUEUE;
    bool answered = false;
    const int failure = add_one(request, make, answered);
    settle();
    return failure;
}

int queue_core::remove(ukevent* records, unsigned count) {
    const lock held(mutex_);
    if (count > registrations_.size()) return -EINVAL;
    for (unsigned i = 0; i < count; ++i) {
        registration* const one = registrations_.find(records[i]);
        records[i].ret_flags = KEVENT_RET_DONE;
        if (one == nullptr) {
            records[i].ret_flags |= KEVENT_RET_BROKEN;
        } else {
            one->origin->removed();
            drop(*one);
        }
    }
    settle();
    return 0;
}

void queue_core::modify_one(registration& one, std::uint32_t event, std::uint32_t req_flags) {
    // An edge that has come already was ready by the old mask, and stays so.
    if ((one.record.event & ~event) != 0 && !one.ready()) {
        watches_.catch_up();  // first: it may have been modified in this call already
        std::array<epoll_event, batch_max> edges;
        apply(edges.data(), port_.take(edges.data(), batch_max));
    }
    const bool was_ready = one.ready();
    one.record.event = event;
    one.record.req_flags = req_flags | one.origin->forced_flags();
    if (was_ready && one.has(KEVENT_REQ_ONESHOT)) {
        // It has fired already. Should it fail its last check, it is armed anew, by the new mask.
        if (one.armed) one.origin->disarm();
        one.armed = false;
        return;
    }
    one.record.ret_flags = was_ready ? one.record.ret_flags & KEVENT_RET_DONE : 0;
    if (arm_or_break(one) && !one.origin->arm_tests()) report(one, one.origin->test());
}

// A registration that cannot be armed any more says so in its record.
bool queue_core::arm_or_break(registration& one) noexcept {
    const int failure = arm(one);
    if (failure == 0) return true;
    one.record.ret_data[1] = static_cast<std::uint32_t>(failure);
    mark_broken(one);
    return false;
}

int queue_core::modify(ukevent* records, unsigned count) {
    const lock held(mutex_);
    if (count > registrations_.size()) return -EINVAL;
    watches_.begin_many(count);
    for (unsigned i = 0; i < count; ++i) {
        registration* const one = registrations_.find(records[i]);
        records[i].ret_flags = KEVENT_RET_DONE;
        if (one == nullptr) {
            records[i].ret_flags |= KEVENT_RET_BROKEN;
        } else {
            modify_one(*one, records[i].event, records[i].req_flags);
        }
    }
    watches_.end_of_many();
    settle();
    return 0;
}

bool queue_core::change_event(std::uint64_t id, event_type type, std::uint32_t event) {
    const lock held(mutex_);
    registration* const one = registrations_.find(id, static_cast<std::uint32_t>(type));
    if (one == nullptr) return false;
    modify_one(*one, event, one->record.req_flags);
    settle();
    return true;
}

int queue_core::ask(std::uint64_t id, event_type type,
                    const std::function<int(source&)>& question) {
    const lock held(mutex_);
    registration* const one = registrations_.find(id, static_cast<std::uint32_t>(type));
    return one == nullptr ? -ENOENT : question(*one->origin);
}

int queue_core::mark_ready(ukevent* records, unsigned count) {
    const lock held(mutex_);
    if (count > registrations_.size()) return -EINVAL;
    unsigned strangers = 0;
    for (unsigned i = 0; i < count; ++i) {
        registration* const one = registrations_.find(records[i]);
        if (one != nullptr) {
            one->origin->marked();
            make_ready(*one, KEVENT_RET_DONE);
            continue;
        }
        records[strangers] = records[i];
        records[strangers++].ret_flags = KEVENT_RET_BROKEN | KEVENT_RET_DONE;
    }
    settle();
    return static_cast<int>(count - strangers);
}

void queue_core::release_waiter() {
    const lock held(mutex_);
    exit_requested_ = true;
    if (sleeping_ != 0) port_.ring_bell();
    settle();
}

// Waiting.

bool queue_core::satisfied(const waiter& by) const noexcept {
    return exit_requested_ || has_enough(by);
}

bool queue_core::has_enough(const waiter& by) const noexcept {
    if (!by.needs_space) return ready_count_ >= by.min_count;
    return (ready_count_ != 0 && !ring_->is_full()) || ring_->is_stale(by.old_uidx);
}

// Wakes one sleeper for what is ready now; it wakes the next, if it leaves something. False: there
// is none that could use it.
bool queue_core::wake_others(const waiter* but) noexcept {
    for (list_link* at = waiters_.next; at != &waiters_; at = at->next) {
        const auto* const other = static_cast<const waiter*>(at);
        if (other != but && satisfied(*other)) {
            port_.ring_bell();
            return true;
        }
    }
    return false;
}

// Last in every call: sleepers, the control descriptor and the alarm learn what has changed.
void queue_core::settle() noexcept {
    if (sleeping_ != 0) {
        wake_others(nullptr);
    } else {
        port_.set_level(ready_count_ != 0 || exit_requested_);
    }
    // The level is on already where too few were ready before: the bell makes a new edge.
    for (list_link* at = loop_waiters_.next; at != &loop_waiters_; at = at->next) {
        if (ready_count_ >= static_cast<const loop_waiter*>(at)->min_count && ready_count_ != 0) {
            port_.ring_bell();
            break;
        }
    }
    wind_alarm();
}

void queue_core::wind_alarm() noexcept {
    if (timers_ == nullptr) return;
    const std::int64_t next_ns = timers_->next_deadline_ns();
    if (next_ns == alarm_ns_) return;
    // A failure leaves the alarm as it was; the next call tries again.
    if (port_.set_alarm(std::max<std::int64_t>(next_ns, 1)) == 0) alarm_ns_ = next_ns;
}

// Hot path: no allocation and no system call.
void queue_core::apply(const epoll_event* events, int count) noexcept {
    watches_.prefetch(events, count);
    for (int i = 0; i < count; ++i) {
        const std::uint64_t tag = events[i].data.u64;
        if (tag < event_port::first_free) {
            if (tag != event_port::alarm || timers_ == nullptr) continue;
            timers_->expire(now_ns(), timers_fired_max);
            alarm_ns_ = alarm_has_rung;  // what is still due sets it again
            continue;
        }
        watches_.tell(events[i]);
    }
}

int queue_core::harvest(lock& held, waiter& by, unsigned capacity, const timespec* timeout,
                        bool may_wait) {
    const int wanted = static_cast<int>(std::clamp(capacity, 1u, batch_max));
    if (!may_wait) {
        std::array<epoll_event, batch_max> edges;
        const int count = port_.take(edges.data(), wanted);
        apply(edges.data(), count);
        return count;
    }
    sleep asleep(*this, held, by, wanted);
    int count = 0;
    {
        const cancelled_here if_wanted;
        count = port_.wait(asleep.edges.data(), wanted, timeout);
    }
    asleep.finished = true;
    return count;
}

// Takes edges without waiting, until something is ready or there are none: an edge may turn out to
// be nothing, and hide one that is not. A registration has one at most, so with the queue's own
// that is the bound.
void queue_core::look(lock& held, waiter& by, unsigned capacity) {
    constexpr std::size_t own_max = 4;  // bell, level, alarm, and what INODE shares
    for (std::size_t round = 0; round <= registrations_.size() + own_max; ++round) {
        const auto room =
            capacity > ready_count_ ? static_cast<unsigned>(capacity - ready_count_) : 0u;
        const int wanted = static_cast<int>(std::clamp(room, 1u, batch_max));
        const int taken = harvest(held, by, room, nullptr, false);
        // What is due and was left for later has rung already. This moves as many timers as are due
        // soon before it has the first.
        while (ready_count_ == 0 && alarm_ns_ == alarm_has_rung &&
               timers_->next_deadline_ns() <= now_ns())
            timers_->expire(now_ns(), timers_fired_max);
        if (taken < wanted || ready_count_ != 0) break;
    }
}

// Waits until `by` is satisfied, the limit is over, or a signal handler has run. Takes from the
// kernel no more edges than the caller can use: what stays there keeps the control descriptor
// readable by itself. Returns true if the call is over, whatever it finds; false if it is worth
// waiting again should all that is ready fail its last check.
bool queue_core::await(lock& held, waiter& by, unsigned capacity, wait_limit limit) {
    const auto room = [&] {
        return capacity > ready_count_ ? static_cast<unsigned>(capacity - ready_count_) : 0u;
    };
    // A release that came while others sleep is for one of them.
    const bool released = exit_requested_ && sleeping_ == 0;
    if (released || has_enough(by) || limit.by == wait_limit::kind::never) {
        if (room() != 0 || ++calls_unharvested_ >= calls_unharvested_max) {
            calls_unharvested_ = 0;
            look(held, by, capacity);
        }
        const bool over = limit.by == wait_limit::kind::never || by.min_count == 0;
        if (released) exit_requested_ = false;
        return released || over;
    }
    bool over = false;
    while (!over) {
        const std::optional<std::int64_t> left_ns = remaining_ns(limit);
        timespec timeout{};
        if (left_ns) {
            std::int64_t slice_ns = std::max<std::int64_t>(*left_ns, 0);
            if (limit.by == wait_limit::kind::realtime)
                slice_ns = std::min(slice_ns, realtime_slice_ns);
            timeout.tv_sec = slice_ns / 1'000'000'000;
            timeout.tv_nsec = slice_ns % 1'000'000'000;
        }
        const int count = harvest(held, by, room(), left_ns ? &timeout : nullptr, true);
        over = count == -EINTR;
        if (left_ns && *remaining_ns(limit) <= 0) over = true;
        if (over && ready_count_ == 0) look(held, by, capacity);
        if (satisfied(by)) break;
        // What this call cannot use, another may; it gets the time to take the bell.
        if (count > 0 && sleeping_ != 0 && wake_others(&by)) {
            handed_over_.wait_for(held, head_start);
            if (satisfied(by)) break;
        }
        settle();
    }
    handed_over_.notify_one();
    return std::exchange(exit_requested_, false) || over;
}

// Collecting.

// Nothing is handed out: a one-shot goes back to its origin.
void queue_core::go_back(registration& one) noexcept {
    answer(one.record, 0, 0);
    if (!one.armed) arm_or_break(one);
}

// Takes the first ready record off the list; false if a last check dropped it.
bool queue_core::hand_out(ukevent& into) noexcept {
    registration& one = static_cast<registration&>(*ready_.next);
    unmark(one);
    const bool checks = one.has(KEVENT_REQ_LAST_CHECK);
    if (checks && one.fresh_call != call_) {
        const readiness state = one.dead ? readiness::broken : one.origin->test();
        if (state == readiness::not_ready) {
            go_back(one);
            return false;
        }
        if (state == readiness::broken) {
            mark_broken(one);
            unmark(one);
        }
    }
    if (!one.dead && !one.origin->collecting()) {
        go_back(one);
        return false;
    }
    into = one.record;
    if (checks) into.req_flags &= ~static_cast<std::uint32_t>(KEVENT_REQ_LAST_CHECK);
    if (one.has(KEVENT_REQ_ONESHOT)) {
        drop(one);
    } else if (!one.dead) {
        // With ET the results are cleared; without, nobody can see them any more.
        answer(one.record, 0, 0);
        report(one, one.origin->collected());
    }
    return true;
}

int queue_core::get_events(unsigned min_count, unsigned max_count, wait_limit limit,
                           ukevent* into) {
    if (max_count == 0) return 0;
    lock held(mutex_);
    ++call_;
    waiter by;
    by.min_count = std::min(min_count, max_count);
    unsigned count = 0;
    for (bool more = true; more && count == 0;) {
        const bool over = await(held, by, max_count, limit);
        more = !over || ready_count_ != 0;  // what all fails its last check hides what is behind
        if (over) limit = wait_limit::no_wait();
        while (count < max_count && ready_count_ != 0) {
            ukevent& record = into[count];
            if (!hand_out(record)) continue;
            if (ring_ && !ring_->place(record)) record.ret_flags |= KEVENT_RET_COPY_FAILED;
            ++count;
        }
    }
    settle();
    return static_cast<int>(count);
}

int queue_core::get_or_watch(loop_waiter& by, unsigned max_count, ukevent* into) {
    constexpr unsigned own_max = 3;  // bell, level and alarm may stand among the edges
    lock held(mutex_);
    ++call_;
    by.unlink();
    waiter nobody;
    unsigned count = 0;
    bool look = ready_count_ < max_count || ++calls_unharvested_ >= calls_unharvested_max;
    while (count == 0) {
        while (look) {
            calls_unharvested_ = 0;
            const auto room =
                max_count > ready_count_ ? static_cast<unsigned>(max_count - ready_count_) : 1u;
            const unsigned wanted = std::min(room, batch_max - own_max) + own_max;
            const int taken = harvest(held, nobody, wanted, nullptr, false);
            look = taken == static_cast<int>(wanted) && ready_count_ < max_count;
        }
        if (ready_count_ == 0 || ready_count_ < by.min_count) break;
        while (count < max_count && ready_count_ != 0) {
            ukevent& record = into[count];
            if (!hand_out(record)) continue;
            if (ring_ && !ring_->place(record)) record.ret_flags |= KEVENT_RET_COPY_FAILED;
            ++count;
        }
        look = true;  // all have failed their last check
    }
    if (count == 0) by.insert_before(loop_waiters_);
    settle();
    return static_cast<int>(count);
}

void queue_core::forget(loop_waiter& by) noexcept {
    const lock held(mutex_);
    by.unlink();
}

int queue_core::wait(unsigned wanted, unsigned old_uidx, wait_limit limit) {
    lock held(mutex_);
    ++call_;
    waiter by;
    by.needs_space = true;
    by.old_uidx = old_uidx;
    unsigned count = 0;
    for (bool more = true; more && count == 0;) {
        const bool over =
            await(held, by, wanted, limit) || wanted == 0 || ring_->is_stale(old_uidx);
        more = !over || (ready_count_ != 0 && wanted != 0 && !ring_->is_full());
        if (over) limit = wait_limit::no_wait();
        while (count < wanted && ready_count_ != 0 && !ring_->is_full()) {
            ukevent record;
            if (!hand_out(record)) continue;
            ring_->place(record);
            ++count;
        }
    }
    settle();
    return static_cast<int>(count);
}

int queue_core::commit(unsigned new_uidx, unsigned over) {
    if (!ring_) return 0;
    const int freed = ring_->commit(new_uidx, over);
    if (freed > 0) {
        const lock held(mutex_);
        settle();  // who waits for room, or has an old index, goes on
    }
    return freed;
}

// For sources.

int queue_core::watch(fd_watch& what, fd_listener& listener, std::uint32_t poll_bits) {
    return watches_.watch(what, listener, poll_bits);
}

void queue_core::unwatch(fd_watch& what) noexcept { watches_.unwatch(what); }

timer_queue& queue_core::timers() {
    if (timers_ == nullptr) timers_ = std::make_unique<timer_queue>(now_ns());
    return *timers_;
}

int queue_core::prepare_timers() {
    timers();
    return port_.make_alarm();
}

std::weak_ptr<void>& queue_core::shared(event_type type) noexcept {
    return shared_[static_cast<std::size_t>(type)];
}

std::int64_t queue_core::now_ns() noexcept { return kernel::real().steady_ns(); }

}  // namespace kevring::detail
