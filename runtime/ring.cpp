// ring.cpp: the event loop of one thread.
//
// One iteration is run_once(), and makes at most one call of io_uring_enter(2):
// (1) take_posted(): work that other threads posted joins the run queue.
// (2) run_ready(): coroutines and callbacks in the run queue run. They fill submission queue
//     entries, which the kernel does not see yet. Work that they schedule waits for the next
//     iteration.
// (3) fire_timers(): timers that are due run, and the next deadline becomes the timeout of (4).
// (4) enter(): one system call submits all entries, runs the completion work that the kernel has
//     deferred for this thread, and sleeps until a completion, the timeout or a post() if nothing
//     is ready. It is skipped if there is nothing to submit, to run or to wait for.
// (5) reap(): each completion that the queue holds now is dispatched to its request, which resumes
//     the awaiting coroutine. Requests that it makes are submitted by (4) of the next iteration.
#include <kevring/runtime/ring.hpp>

#include <kevring/runtime/assert.hpp>
#include <kevring/runtime/detail/ring_state.hpp>
#include <kevring/runtime/detail/uring.hpp>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

namespace kevring {

using detail::asleep;
using detail::current_ring;
using detail::load_acquire;
using detail::queuing_ring;
using detail::ring_failed;
using detail::store_release;
using detail::this_thread;

[[gnu::tls_model("initial-exec")]] constinit thread_local std::uint64_t detail::thread_number = 0;
[[gnu::tls_model("initial-exec")]] constinit thread_local ring* detail::current_ring = nullptr;
[[gnu::tls_model("initial-exec")]] constinit thread_local ring* detail::queuing_ring = nullptr;

namespace {

// Limit of consecutive awaits that end without the loop. A stream of buffered messages yields after
// this many; at 10 ns each, other coroutines wait 3 us for it.
constexpr unsigned inline_budget_per_iteration = 256;

// The stack that coroutines may use in calls of each other before the loop makes the next call. The
// smallest stack that is in common use, 512 KiB, holds it twice.
constexpr std::uintptr_t stack_bytes_max = 256 * 1024;

// Tells the processor that this thread only waits for another.
void cpu_relax() noexcept {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

}  // namespace

// Hot path: no allocation, no mutex, no system call but io_uring_enter.

bool ring::driven_by_another_thread() const noexcept {
    const std::uint64_t owner = owner_.load(std::memory_order_relaxed);
    return owner != 0 && owner != this_thread();
}

unsigned ring::queue(completion& request) noexcept {
    KEVRING_ASSERT(on_ring_thread(),
                   "request queued on a thread that does not drive the ring; post() work to the "
                   "ring, which queues the request");
    if (closing_ || created_by_parent_process()) [[unlikely]] {
        refuse(request);
        return entry_tail_ - 1;
    }
    io_uring_sqe& entry = next_entry();
    request.prepare(entry);
    entry.user_data = reinterpret_cast<std::uintptr_t>(&request);
    ++in_flight_;
    ++counters_.requests;
    counters_.punts.add(detail::always_punted(entry.opcode) ? 1 : 0);
    return entry_tail_ - 1;
}

void ring::post(work& item) noexcept {
    if (created_by_parent_process()) [[unlikely]]
        return;
    work* seen = posted_.load(std::memory_order_relaxed);
    do {
        item.next = seen == asleep() ? nullptr : seen;
        // release: pairs with the exchange in take_posted(), which reads `item`.
    } while (!posted_.compare_exchange_weak(seen, &item, std::memory_order_release,
                                            std::memory_order_relaxed));
    if (seen == asleep()) wake();  // the one thread that replaces the sentinel wakes the loop
}

bool ring::take_posted() noexcept {
    if (posted_.load(std::memory_order_relaxed) == nullptr) return false;
    work* newest = posted_.exchange(nullptr, std::memory_order_acquire);
    if (newest == asleep() || newest == nullptr) return false;
    work* oldest = nullptr;  // the mailbox is a stack: reverse it
    while (newest != nullptr) {
        work* const after = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = after;
    }
    while (oldest != nullptr) {
        work* const after = oldest->next;
        schedule(*oldest);
        oldest = after;
    }
    return true;
}

// Runs the work that is ready now. Work that it schedules waits for the next iteration: the kernel,
// the timers and other threads come between. False: an item forked, and this is the child.
bool ring::run_ready() noexcept {
    work* item = std::exchange(ready_first_, nullptr);
    ready_last_ = &ready_first_;
    while (item != nullptr) {
        work* const after = item->next;  // first: running may destroy the item
        inline_budget_ = inline_budget_per_iteration;
        item->run(*item);
        item = after;
        if (created_by_parent_process()) [[unlikely]] {
            *ready_last_ = item;
            return false;
        }
    }
    return true;
}

// Coroutines that resume each other: where neither the kernel, nor a timer, nor another thread has
// anything for this loop, the rest of the iteration would do nothing.
bool ring::only_coroutines_have_work() const noexcept {
    return ready_first_ != nullptr && done_flag_ != nullptr && !*done_flag_ && unsubmitted() == 0 &&
           !completions_ready() && !kernel_has_work() && !has_posted() && saved_.empty() &&
           timers_.empty() && (system_is_real_ || !system_.holds_completions(*uring_));
}

// Returns how long the loop may sleep: 0 if more timers are due, never_ns if there are none.
std::int64_t ring::fire_timers() noexcept {
    // Limit of one iteration, so that many timers with one deadline cannot delay the sockets.
    constexpr std::size_t fire_count_max = 1024;
    const std::int64_t next_ns = timers_.next_deadline_ns();
    if (next_ns == never_ns) return never_ns;  // first: without a timer the clock is not read
    std::int64_t now = now_ns();
    if (next_ns <= now) {
        inline_budget_ = inline_budget_per_iteration;
        timers_.expire(now, fire_count_max);
        const std::int64_t following_ns = timers_.next_deadline_ns();
        if (following_ns == never_ns) return never_ns;
        now = now_ns();
        return following_ns > now ? following_ns - now : 0;
    }
    return next_ns - now;
}

void ring::run_once(bool may_wait) {
    KEVRING_ASSERT(
        !in_iteration_ || created_by_parent_process(),
        "run_once() called from within the loop of the same ring; await, or spawn() a task, "
        "instead");
    struct inside_iteration {
        explicit inside_iteration(ring& self) noexcept : self(self) {
            // A coroutine of another ring that drives this one has its own ring back afterwards.
            if (current_ring != nullptr && current_ring->in_iteration_) outer = current_ring;
            current_ring = &self;
            self.in_iteration_ = true;
        }
        ~inside_iteration() {
            self.in_iteration_ = false;
            if (outer != nullptr) current_ring = outer;
        }
        ring& self;
        ring* outer = nullptr;
    };
    if (current_ring != this || owner_.load(std::memory_order_relaxed) == 0 ||
        created_by_parent_process()) [[unlikely]]
        claim();
    const inside_iteration inside(*this);
    ++counters_.iterations;
    stack_limit_ = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0)) - stack_bytes_max;
    counters_.wakes_sent.store(wakes_sent_.load(std::memory_order_relaxed));
    take_posted();
    // Each of these may resume a coroutine that forks. The child leaves the loop at once: the ready
    // coroutines, the timers and the completions are the parent's.
    if (!run_ready()) [[unlikely]]
        return;
    while (only_coroutines_have_work()) {
        ++counters_.iterations;
        if (!run_ready()) [[unlikely]]
            return;
    }
    const std::int64_t timeout_ns = fire_timers();
    if (created_by_parent_process()) [[unlikely]]
        return;
    enter(may_wait, timeout_ns);
    reap();
    if (!may_wait && !closing_) mark_asleep();
    if (event_fd_.load(std::memory_order_relaxed) >= 0) [[unlikely]]
        reset_event_fd();
}

void ring::run_until(const bool& done) {
    struct entered {
        entered(ring& self, const bool& done) noexcept
            : self(self), outer_ring(std::exchange(current_ring, &self)) {
            self.done_flag_ = &done;
        }
        ~entered() {
            current_ring = outer_ring;
            self.done_flag_ = nullptr;
        }
        ring& self;
        ring* const outer_ring;
    };
    claim();
    KEVRING_ASSERT(done_flag_ == nullptr && !in_iteration_,
                   "run() or run_until() called from within the loop of the same ring; await the "
                   "task, or spawn() it, instead");
    const entered inside(*this, done);
    while (!done) run_once(true);
}

void ring::enter(bool may_wait, std::int64_t timeout_ns) noexcept {
    // The work of this iteration may have set the flag: then nothing would end the sleep.
    bool sleeps = may_wait && !(done_flag_ != nullptr && *done_flag_) && ready_first_ == nullptr &&
                  timeout_ns > 0 && saved_.empty() && !completions_ready() &&
                  !(kernel_has_work() && unsubmitted() == 0);
    // A loop that spins submits its requests first: it polls for their completions.
    if (sleeps && options_.spin.count() > 0)
        sleeps = unsubmitted() == 0 && !spin_for_work(timeout_ns);
    // From here on a post() wakes. One that came before is seen by the exchange; then there is
    // work, and no sleep.
    if (sleeps) sleeps = mark_asleep();
    const unsigned submit_count = unsubmitted();
    if (!sleeps && submit_count == 0 && !kernel_has_work() && !system_.holds_completions(*uring_))
        return;  // nothing that needs the kernel

    store_release(sq_tail_, entry_tail_);
    __kernel_timespec timeout{};
    const bool timed = sleeps && timeout_ns != never_ns;
    if (timed) {
        timeout.tv_sec = timeout_ns / 1'000'000'000;
        timeout.tv_nsec = timeout_ns % 1'000'000'000;
    }
    ++counters_.enters;
    const int entered = system_.ring_enter(*uring_, submit_count, sleeps ? 1 : 0,
                                           IORING_ENTER_GETEVENTS | (sleeps ? wait_flags_ : 0),
                                           timed ? &timeout : nullptr);
    if (queuing_ring == this && unsubmitted() == 0) queuing_ring = nullptr;
    if (sleeps) {
        work* mark = asleep();  // awake: posts need no wake-up from here on
        posted_.compare_exchange_strong(mark, nullptr, std::memory_order_relaxed);
    }
    // ETIME: a timer is due. EINTR: a signal; its handler has run, and it may have set the flag.
    // EBUSY: the kernel wants completions reaped first; reap() follows. EAGAIN and ENOMEM: it lacks
    // memory for a request; those that it did not take stay queued for the next enter.
    if (entered >= 0 || entered == -ETIME || entered == -EINTR || entered == -EBUSY ||
        entered == -EAGAIN || entered == -ENOMEM)
        return;
    ring_failed("io_uring_enter", -entered);
}

// True if the mailbox was empty. release: nothing to publish, but a poster's acquire needs a
// partner.
bool ring::mark_asleep() noexcept {
    work* none = nullptr;
    return posted_.compare_exchange_strong(none, asleep(), std::memory_order_acq_rel);
}

// Spins for options_.spin at most; true when there is something to do without a sleep.
bool ring::spin_for_work(std::int64_t timeout_ns) noexcept {
    const std::int64_t begin = now_ns();
    const std::int64_t spin_ns =
        std::min<std::int64_t>(nanoseconds(clamped_duration(options_.spin)).count(), timeout_ns);
    do {
        for (int i = 0; i < 16; ++i) {
            if (completions_ready() || kernel_has_work() || has_posted()) return true;
            cpu_relax();
        }
    } while (now_ns() - begin < spin_ns);
    return false;
}

void ring::reap() noexcept {
    if (!saved_.empty()) [[unlikely]] {
        // Taken as a whole: completions that are saved while these run are younger.
        const std::vector<saved_completion> earlier = std::exchange(saved_, {});
        for (const saved_completion& each : earlier) {
            dispatch(each.user_data, each.res, each.flags);
            if (created_by_parent_process()) [[unlikely]]
                return;
        }
        if (!saved_.empty()) return;  // older than what the queue holds by now
    }
    if ((load_acquire(sq_flags_) & IORING_SQ_CQ_OVERFLOW) != 0) ++counters_.overflows;
    unsigned head = *cq_head_;
    // Only up to here: completions that arrive while these run belong to the next iteration.
    const unsigned tail = load_acquire(cq_tail_);
    while (head != tail) {
        const io_uring_cqe& entry = cqes_[head & cq_mask_];
        const std::uint64_t user_data = entry.user_data;
        const std::int32_t res = entry.res;
        const std::uint32_t flags = entry.flags;
        store_release(cq_head_, head + 1);  // first: what runs now may enter, and needs the room
        dispatch(user_data, res, flags);
        if (created_by_parent_process()) [[unlikely]]  // the coroutine forked: the rest is its
            return;                                    // parent's
        // A flush during dispatch may have saved the rest; then the head has advanced, and later
        // completions are younger than the saved ones.
        if (!saved_.empty()) break;
        head = *cq_head_;
    }
}

void ring::dispatch(std::uint64_t user_data, std::int32_t res, std::uint32_t flags) noexcept {
    ++counters_.completions;
    if (user_data >= detail::user_data_first_address) [[likely]] {
        if ((flags & IORING_CQE_F_MORE) == 0) --in_flight_;
        if ((user_data & detail::user_data_refused) != 0) [[unlikely]] {
            user_data &= ~detail::user_data_refused;
            res = -ECANCELED;
        }
        inline_budget_ = inline_budget_per_iteration;
        reinterpret_cast<completion*>(static_cast<std::uintptr_t>(user_data))->complete(res, flags);
        return;
    }
    if (user_data == detail::user_data_wake && !wake_by_message_ &&
        (flags & IORING_CQE_F_MORE) == 0) {
        arm_wake();
    }
}

bool ring::has_posted() const noexcept {
    const work* const posted = posted_.load(std::memory_order_relaxed);
    return posted != nullptr && posted != asleep();
}

unsigned ring::unsubmitted() const noexcept { return entry_tail_ - load_acquire(sq_head_); }

bool ring::completions_ready() const noexcept { return load_acquire(cq_tail_) != *cq_head_; }

// With DEFER_TASKRUN completions wait for the owner to enter; the kernel sets a flag for them.
bool ring::kernel_has_work() const noexcept {
    return (load_acquire(sq_flags_) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
}

io_uring_sqe& ring::next_entry() noexcept {
    if (unsubmitted() >= sq_entries_) [[unlikely]]
        flush_full_queue();
    if (queuing_ring != this) {
        if (queuing_ring != nullptr) [[unlikely]]
            queuing_ring->submit();
        queuing_ring = this;
    }
    io_uring_sqe& entry = sqes_[entry_tail_++ & sq_mask_];
    std::memset(&entry, 0, sizeof entry);
    return entry;
}

}  // namespace kevring
