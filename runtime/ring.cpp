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
#include <kevring/runtime/detail/hidden_fd.hpp>
#include <kevring/runtime/detail/uring.hpp>
#include <kevring/runtime/features.hpp>
#include <kevring/runtime/thread_mutex.hpp>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

namespace kevring {
namespace {

// How many awaits in a row may end without the loop before others get their turn. A stream of
// buffered messages gives way after this many; at 10 ns each, nobody waits long for it.
constexpr unsigned inline_budget_per_iteration = 256;

// The stack that coroutines may use in calls of each other before the loop makes the next call. The
// smallest stack that is in common use, 512 KiB, holds it twice.
constexpr std::uintptr_t stack_bytes_max = 256 * 1024;

// The mailbox of a ring that sleeps holds this mark, which no work has as its address.
work* asleep() noexcept { return reinterpret_cast<work*>(1); }

[[gnu::tls_model("initial-exec")]] thread_local ring* current_ring = nullptr;
// The ring that holds this thread's entries that have not been submitted; there is one at most.
[[gnu::tls_model("initial-exec")]] thread_local ring* queuing_ring = nullptr;

// A number that no other thread of this process has had: the address of a thread_local is reused.
std::uint64_t this_thread() noexcept {
    static std::atomic<std::uint64_t> last{0};
    [[gnu::tls_model("initial-exec")]] static thread_local std::uint64_t number = 0;
    if (number == 0) number = last.fetch_add(1, std::memory_order_relaxed) + 1;
    return number;
}

// Tells the processor that this thread only waits for another.
void cpu_relax() noexcept {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

template <class T>
T load_acquire(const T* from) noexcept {  // pairs with the kernel's release of the same word
    return __atomic_load_n(from, __ATOMIC_ACQUIRE);
}
template <class T>
void store_release(T* into, T value) noexcept {  // pairs with the kernel's acquire of the same word
    __atomic_store_n(into, value, __ATOMIC_RELEASE);
}

// The cause and the remedy of an errno of io_uring_enter(2) or IORING_REGISTER_SEND_MSG_RING that
// no repetition mends.
[[gnu::cold]] const char* explain_broken_ring(int error) noexcept {
    switch (error) {
        case EBADF:
        case EOPNOTSUPP:  // the number is another file's by now
            return "the ring's descriptor was closed; close only descriptors that the program "
                   "opened, and none by a loop over all numbers";
        case EEXIST:
            return "another thread or process entered the ring; use a ring on the thread that "
                   "first drove it, and call only execve() or _exit() after vfork()";
        case EPERM:
        case EACCES:
        case ENOSYS:
            return "a seccomp filter refuses io_uring since the ring was created; install filters "
                   "that allow io_uring_enter and io_uring_register, or install them first";
        case EBADR:
            return "the kernel had no memory for completions and lost some; raise the memory limit "
                   "or ring_options::completion_entries";
        default:
            return "internal error: the kernel refuses the library's request; report it with the "
                   "kernel's version";
    }
}

// Requests in flight can be neither stopped nor awaited any more, and their frames must not be
// destroyed: the program has no state to continue from.
[[noreturn, gnu::cold]] void ring_failed(const char* call, int error) noexcept {
    std::fprintf(stderr, "kevring: %s: %s\n  %s\n", call, std::strerror(error),
                 explain_broken_ring(error));
    std::abort();
}

}  // namespace

// Hot path: no allocation, no mutex, no system call but io_uring_enter.

ring* ring::current() noexcept { return current_ring; }

bool ring::on_ring_thread() const noexcept {
    return owner_.load(std::memory_order_relaxed) == this_thread();
}

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
    counters_.punts += detail::always_punted(entry.opcode);
    return entry_tail_ - 1;
}

void ring::schedule(work& item) noexcept {
    item.next = nullptr;
    *ready_last_ = &item;
    ready_last_ = &item.next;
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
    if (seen == asleep()) wake();  // whoever replaces the mark wakes, so one does
}

bool ring::take_posted() noexcept {
    if (posted_.load(std::memory_order_relaxed) == nullptr) return false;
    work* newest = posted_.exchange(nullptr, std::memory_order_acquire);
    if (newest == asleep() || newest == nullptr) return false;
    work* oldest = nullptr;  // the mailbox is a stack: turn it round
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

// Runs what is ready now. What this work makes ready waits for the next turn: the kernel, the
// timers and other threads come between.
void ring::run_ready() noexcept {
    work* item = std::exchange(ready_first_, nullptr);
    ready_last_ = &ready_first_;
    while (item != nullptr) {
        work* const after = item->next;  // first: the item may be gone when it has run
        inline_budget_ = inline_budget_per_iteration;
        item->run(*item);
        item = after;
        if (created_by_parent_process()) [[unlikely]] {  // `item` forked, and this is the child
            *ready_last_ = item;
            return;
        }
    }
}

// Returns how long the loop may sleep: 0 if more timers are due, never_ns if there are none.
std::int64_t ring::fire_timers() noexcept {
    // A turn fires at most so many, so that a crowd with one deadline cannot hold up the sockets.
    constexpr std::size_t fire_count_max = 1024;
    const std::int64_t next_ns = timers_.next_deadline_ns();
    if (next_ns == never_ns) return never_ns;  // first: no timer, no look at the clock
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
    struct inside_turn {
        explicit inside_turn(ring& self) noexcept : self(self) {
            // A coroutine of another ring that drives this one has its own ring back afterwards.
            if (current_ring != nullptr && current_ring->in_iteration_) outer = current_ring;
            current_ring = &self;
            self.in_iteration_ = true;
        }
        ~inside_turn() {
            self.in_iteration_ = false;
            if (outer != nullptr) current_ring = outer;
        }
        ring& self;
        ring* outer = nullptr;
    };
    if (current_ring != this || owner_.load(std::memory_order_relaxed) == 0 ||
        created_by_parent_process()) [[unlikely]]
        claim();
    const inside_turn inside(*this);
    ++counters_.iterations;
    stack_limit_ = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0)) - stack_bytes_max;
    counters_.wakes_sent = wakes_sent_.load(std::memory_order_relaxed);
    take_posted();
    // Each of these may resume a coroutine that forks. The child leaves the loop at once: the ready
    // coroutines, the timers and the completions are the parent's.
    run_ready();
    if (created_by_parent_process()) [[unlikely]]
        return;
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
    // The goal may have been reached by this turn's own work: then nothing would end the sleep.
    bool sleeps = may_wait && !(done_flag_ != nullptr && *done_flag_) && ready_first_ == nullptr &&
                  timeout_ns > 0 && saved_.empty() && !completions_ready() &&
                  !(kernel_has_work() && unsubmitted() == 0);
    // A loop that spins hands its requests over first: their answers are what it looks for.
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
    // ETIME: a timer is due. EINTR: a signal; its handler has run, and it may have set the goal.
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
        // Taken as a whole: what is saved meanwhile is younger.
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
    // Up to here and no further: what arrives while these run is the next turn's.
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
        // A flush within may have saved the rest; then the head has moved on.
        // and what has come since is younger than what was saved.
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

// With DEFER_TASKRUN completions wait for the owner to enter; the kernel says so in the flags.
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

void ring::detach(detail::list_link& request) noexcept {
    KEVRING_ASSERT(on_ring_thread(),
                   "internal error: a request was detached on another thread than its ring's; "
                   "report it with the call that led to it");
    request.insert_before(detached_);
    ++detached_count_;
}

void ring::detached_completed(detail::list_link& request) noexcept {
    request.unlink();
    --detached_count_;
}

bool ring::withdraw(completion& request, unsigned entry_index) noexcept {
    if (created_by_parent_process() || entry_tail_ - entry_index - 1 >= unsubmitted()) return false;
    io_uring_sqe& entry = sqes_[entry_index & sq_mask_];
    const std::uint64_t address = reinterpret_cast<std::uintptr_t>(&request);
    if ((entry.user_data & ~detail::user_data_refused) != address) return false;
    std::memset(&entry, 0, sizeof entry);
    entry.opcode = IORING_OP_NOP;
    entry.fd = -1;
    entry.user_data = detail::user_data_ignored;
    --in_flight_;
    return true;
}

void ring::submit_entries_naming(int descriptor) noexcept {
    ring* const loop = queuing_ring;
    if (loop == nullptr || loop->created_by_parent_process()) return;
    for (unsigned index = loop->entry_tail_ - loop->unsubmitted(); index != loop->entry_tail_;
         ++index) {
        const io_uring_sqe& entry = loop->sqes_[index & loop->sq_mask_];
        // The second descriptor of a splice; in others this is 0, or makes them go early.
        if (entry.fd == descriptor || entry.splice_fd_in == descriptor) {
            loop->submit();
            return;
        }
    }
}

void ring::queue_cancel(completion& request) noexcept {
    KEVRING_ASSERT(on_ring_thread(),
                   "stop requested on a thread that does not drive the ring; use a std::stop_token "
                   "with with_stop(), or post() the stop");
    if (created_by_parent_process()) [[unlikely]]
        return;
    io_uring_sqe& entry = next_entry();
    entry.opcode = IORING_OP_ASYNC_CANCEL;
    entry.fd = -1;
    entry.addr = reinterpret_cast<std::uintptr_t>(&request);
    entry.user_data = detail::user_data_ignored;
    ++counters_.cancels;
}

// Set-up, the rare cases and the end. [[gnu::cold]] keeps them out of the way.

// Hands over what is queued so that there is room. Frames are not resumed here: the caller may be
// in the middle of anything. Completions that must make way are saved for the next reap.
[[gnu::cold]] void ring::flush_full_queue() noexcept {
    ++counters_.full_submissions;
    submit_down_to(sq_entries_ - 1);
}

[[gnu::cold]] void ring::submit() noexcept {
    if (!created_by_parent_process()) submit_down_to(0);
    if (queuing_ring == this) queuing_ring = nullptr;
}

// Enters until at most `count_max` entries are left.
[[gnu::cold]] void ring::submit_down_to(unsigned count_max) noexcept {
    while (unsubmitted() > count_max) {
        store_release(sq_tail_, entry_tail_);
        ++counters_.enters;
        const int entered = system_.ring_enter(*uring_, unsubmitted(), 0, 0, nullptr);
        if (entered > 0) continue;
        switch (entered) {
            case 0:
            case -EINTR: break;
            case -EBUSY:
            case -EAGAIN:
            case -ENOMEM:
                // The kernel holds completions that found no room, or lacks memory: take what is
                // there, and let it post the rest.
                save_completions();
                system_.ring_enter(*uring_, 0, 0, IORING_ENTER_GETEVENTS, nullptr);
                save_completions();
                break;
            default: ring_failed("io_uring_enter", -entered);
        }
    }
}

[[gnu::cold]] void ring::save_completions() noexcept {
    unsigned head = *cq_head_;
    const unsigned tail = load_acquire(cq_tail_);
    for (; head != tail; ++head) {
        const io_uring_cqe& entry = cqes_[head & cq_mask_];
        saved_.push_back({entry.user_data, entry.res, entry.flags});
    }
    store_release(cq_head_, head);
}

ring::ring(ring_options options, kernel& system)
    : system_(system),
      options_(options),
      uring_(std::make_unique<io_uring>()),
      timers_(system.steady_ns()) {
    set_up();
}

[[gnu::cold]] void ring::set_up() {
    io_uring_params params{};
    params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                   IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE |
                   IORING_SETUP_CLAMP | IORING_SETUP_R_DISABLED;
    const unsigned submission_entries = std::max(options_.submission_entries, 1U);
    params.cq_entries = std::max(options_.completion_entries, submission_entries);
    const int made = system_.ring_setup(submission_entries, params, *uring_);
    if (made < 0)
        throw std::system_error(-made, std::system_category(), explain_ring_failure(-made));

    sq_head_ = uring_->sq.khead;
    sq_tail_ = uring_->sq.ktail;
    sq_flags_ = uring_->sq.kflags;
    cq_head_ = uring_->cq.khead;
    cq_tail_ = uring_->cq.ktail;
    sqes_ = uring_->sq.sqes;
    cqes_ = uring_->cq.cqes;
    sq_entries_ = params.sq_entries;
    sq_mask_ = sq_entries_ - 1;
    cq_mask_ = params.cq_entries - 1;
    entry_tail_ = *sq_tail_;
    // The kernel finds entries through an index array; ours are always in their own order. Newer
    // versions of liburing ask for rings that have none.
    if (uring_->sq.array != nullptr)
        for (unsigned i = 0; i < sq_entries_; ++i) uring_->sq.array[i] = i;
    if ((params.features & detail::feature_no_iowait) != 0) wait_flags_ |= detail::enter_no_iowait;

    wake_by_message_ = features::get().send_message && &system_ == &kernel::real();
    if (!wake_by_message_) {
        wake_fd_ = detail::above_standard(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
        if (wake_fd_ < 0) {
            const int error = errno;
            system_.ring_exit(*uring_);
            throw std::system_error(error, std::system_category(), "kevring: eventfd");
        }
    }
}

// The ring is made disabled, so that any thread can make it; whoever drives it first owns it.
[[gnu::cold]] void ring::claim() {
    if (created_by_parent_process())
        throw std::system_error(
            EPERM, std::system_category(),
            "kevring: this ring belongs to the parent process; make a new one after fork()");
    const std::uint64_t owner = owner_.load(std::memory_order_relaxed);
    if (owner != 0) {
        KEVRING_ASSERT(owner == this_thread(),
                       "ring driven by a second thread; post() to it from other threads, or create "
                       "one ring per thread");
        return;
    }
    const int enabled = system_.ring_register(*uring_, IORING_REGISTER_ENABLE_RINGS, nullptr, 0);
    if (enabled < 0)
        throw std::system_error(-enabled, std::system_category(), "kevring: enabling a ring");
    owner_.store(this_thread(), std::memory_order_relaxed);
    if (!wake_by_message_) arm_wake();
    mark_asleep();  // a foreign loop may poll before the first turn
}

[[gnu::cold]] void ring::arm_wake() {
    io_uring_sqe& entry = next_entry();
    entry.opcode = IORING_OP_POLL_ADD;
    entry.fd = wake_fd_;
    entry.len = IORING_POLL_ADD_MULTI;
    entry.poll32_events = POLLIN;
    entry.user_data = detail::user_data_wake;
}

int ring::register_resource(unsigned opcode, void* argument, unsigned count) noexcept {
    if (created_by_parent_process()) return -EPERM;
    return system_.ring_register(*uring_, opcode, argument, count);
}

int ring::native_handle() {
    if (const int existing = event_fd_.load(std::memory_order_relaxed); existing >= 0)
        return existing;
    claim();
    int made = detail::above_standard(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    int error = made < 0 ? errno : 0;
    if (error == 0) {
        error = -register_resource(IORING_REGISTER_EVENTFD, &made, 1);
        if (error > 0) ::close(made);
    }
    if (error > 0)
        throw std::system_error(error, std::system_category(),
                                "kevring: a descriptor for ring::native_handle()");
    event_fd_.store(made, std::memory_order_relaxed);
    reset_event_fd();
    return made;
}

// Makes the descriptor readable if and only if there is work. The kernel publishes a completion
// before it signals the eventfd: an event whose signal is read here is seen by has_work().
[[gnu::cold]] void ring::reset_event_fd() noexcept {
    const int saved_errno = errno;
    int event_fd = event_fd_.load(std::memory_order_relaxed);
    bool is_registered = true;
    if (event_fd_completions_ != counters_.completions) {
        // A request that another eventfd wakes cannot signal this one at once, and Linux 6.18
        // signals it later only once for each registration.
        register_resource(IORING_UNREGISTER_EVENTFD, nullptr, 0);
        is_registered = register_resource(IORING_REGISTER_EVENTFD, &event_fd, 1) >= 0;
        if (is_registered) event_fd_completions_ = counters_.completions;
    }
    std::uint64_t count = 0;
    static_cast<void>(!::read(event_fd, &count, sizeof count));  // EAGAIN: it was not readable
    if (!is_registered || has_work()) {  // without memory to register it the next turn tries again
        count = 1;
        static_cast<void>(!::write(event_fd, &count, sizeof count));
    }
    errno = saved_errno;
}

bool ring::has_work() const noexcept {
    return ready_first_ != nullptr || !saved_.empty() || unsubmitted() != 0 ||
           completions_ready() || kernel_has_work() || has_posted() ||
           timers_.next_deadline_ns() <= now_ns() || system_.holds_completions(*uring_);
}

steady_time ring::next_deadline() const noexcept {
    return steady_time(nanoseconds(timers_.next_deadline_ns()));
}

int ring::poll_timeout_ms() const noexcept {
    constexpr std::int64_t millisecond_ns = 1'000'000;
    if (has_work()) return 0;
    const std::int64_t next_ns = timers_.next_deadline_ns();
    if (next_ns == never_ns) return -1;
    const std::int64_t wait_ns = next_ns - now_ns();
    if (wait_ns <= 0) return 0;
    return static_cast<int>(std::min<std::int64_t>((wait_ns - 1) / millisecond_ns + 1, INT_MAX));
}

// Called on any thread.
[[gnu::cold]] void ring::wake() noexcept {
    wakes_sent_.fetch_add(1, std::memory_order_relaxed);
    const std::uint64_t one = 1;
    const int saved_errno = errno;
    // A foreign loop that polls it is woken by this alone; the ring may as well sleep in run_once().
    if (const int event_fd = event_fd_.load(std::memory_order_relaxed); event_fd >= 0)
        static_cast<void>(!::write(event_fd, &one, sizeof one));
    errno = saved_errno;
    if (wake_by_message_) {
        io_uring_sqe message{};
        message.opcode = IORING_OP_MSG_RING;
        message.fd = uring_->ring_fd;
        message.off = detail::user_data_wake;
        int sent = -ENOMEM;  // a message needs memory of the kernel's, and losing it is no option
        while (sent == -ENOMEM || sent == -EAGAIN)
            sent = system_.ring_register(*uring_, detail::register_send_msg_ring, &message, 1);
        if (sent < 0 && sent != -EOVERFLOW)  // an overflowing queue wakes as well
            ring_failed("io_uring_register", -sent);
        return;
    }
    // EAGAIN means that the counter is at its end: then the poll has fired long ago.
    static_cast<void>(!::write(wake_fd_, &one, sizeof one));
    errno = saved_errno;
}

// A closing ring takes no request: in its place goes one that does nothing, and is answered as if
// it had been stopped at once.
[[gnu::cold]] void ring::refuse(completion& request) noexcept {
    static_assert(alignof(completion) > detail::user_data_refused);
    if (created_by_parent_process()) return;
    io_uring_sqe& entry = next_entry();
    entry.opcode = IORING_OP_NOP;
    entry.user_data = reinterpret_cast<std::uintptr_t>(&request) | detail::user_data_refused;
    ++in_flight_;
    ++counters_.requests;
}

[[gnu::cold]] void ring::cancel_everything() noexcept {
    io_uring_sqe& entry = next_entry();
    entry.opcode = IORING_OP_ASYNC_CANCEL;
    entry.fd = -1;
    entry.cancel_flags = IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL;
    entry.user_data = detail::user_data_ignored;
}

[[gnu::cold]] void ring::store_service(std::unique_ptr<ring_service> created,
                                       const void* key) noexcept {
    created->key_ = key;
    created->next_ = std::move(services_);
    services_ = std::move(created);
}

// The newest first: a service may use those that its constructor found. One that is being destroyed
// is found no longer.
[[gnu::cold]] void ring::destroy_services() noexcept {
    while (services_) {
        const std::unique_ptr<ring_service> newest = std::move(services_);
        services_ = std::move(newest->next_);
    }
}

[[gnu::cold]] std::uint16_t ring::acquire_buffer_group() {
    if (!free_buffer_groups_.empty()) {
        const std::uint16_t group = free_buffer_groups_.back();
        free_buffer_groups_.pop_back();
        return group;
    }
    if (buffer_groups_made_ > 0xffff)
        throw std::length_error("kevring: 65536 buffer pools on one ring");
    free_buffer_groups_.reserve(buffer_groups_made_ + 1);  // first: giving back must not fail
    return static_cast<std::uint16_t>(buffer_groups_made_++);
}

[[gnu::cold]] void ring::release_buffer_group(std::uint16_t group) noexcept {
    free_buffer_groups_.push_back(group);
}

// Stops what is in flight, and waits for the kernel's last word on it. False: a coroutine has not
// ended within the bound.
[[gnu::cold]] bool ring::drain() noexcept {
    struct reminder : timer_node {
        explicit reminder(ring& of) noexcept
            : timer_node([](timer_node& self) noexcept {
                  static_cast<reminder&>(self).of.cancel_everything();
              }),
              of(of) {}
        ring& of;
    };
    constexpr std::int64_t reminder_ns = 100'000'000;
    // A peer that is there acknowledges within this; one that is not may never.
    constexpr std::int64_t patience_ns = 250'000'000;
    // A stopped coroutine may still await something else: it is refused, and ends. The bound is
    // for one that never does; what it holds then leaks rather than hangs the program. Only
    // iterations count since fewer requests were in flight than ever before: requests that end one
    // after the other are awaited, however many they are.
    constexpr int turn_count_max = 10'000;

    ring* const outer = std::exchange(current_ring, this);
    closing_ = true;
    root_scope_.request_stop();
    cancel_everything();
    reminder again(*this);  // for what was in between two states when the cancel passed by
    const std::int64_t patience_end_ns = add_ns(now_ns(), nanoseconds(patience_ns));
    bool ended = false;
    std::size_t fewest_in_flight = in_flight_;
    for (int turns_without_progress = 0; turns_without_progress < turn_count_max;
         ++turns_without_progress) {
        const bool idle = ready_first_ == nullptr && saved_.empty() && !has_posted();
        if (idle && in_flight_ == detached_count_ &&
            (detached_count_ == 0 || now_ns() >= patience_end_ns)) {
            ended = true;
            break;
        }
        if (!again.armed()) timers_.arm(again, add_ns(now_ns(), nanoseconds(reminder_ns)));
        run_once(in_flight_ > 0);
        if (in_flight_ < fewest_in_flight) {
            fewest_in_flight = in_flight_;
            turns_without_progress = 0;
        }
    }
    timers_.disarm(again);
    current_ring = outer == this ? nullptr : outer;
    return ended;
}

// Leaves everything that waits on the ring as it is, for good: nothing of it runs again. The lists
// go into ones that are never destroyed, so that leak checkers see that the frames are kept.
[[gnu::cold]] void ring::abandon() noexcept {
    struct kept_lists {
        thread_mutex guard;
        detail::list_link hooks KEVRING_GUARDED_BY(guard);
        detail::timer_links timers KEVRING_GUARDED_BY(guard);
        work* ready KEVRING_GUARDED_BY(guard) = nullptr;
        std::vector<std::unique_ptr<ring_service>> services KEVRING_GUARDED_BY(guard);
    };
    static kept_lists& kept = *new kept_lists;
    const thread_lock lock(kept.guard);
    root_scope_.set_deadline(never_ns);
    root_scope_.abandon(kept.hooks);
    timers_.abandon(kept.timers);
    take_posted();
    if (ready_first_ != nullptr) {
        work* last = ready_first_;
        while (last->next != nullptr) last = last->next;
        last->next = std::exchange(kept.ready, std::exchange(ready_first_, nullptr));
        ready_last_ = &ready_first_;
    }
    if (in_flight_ > detached_count_ && !created_by_parent_process()) {
        // The kernel may still write to the buffers of pools.
        kept.services.push_back(std::move(services_));
    }
}

// Memory that the kernel may still read goes from the ring's list into one that is never destroyed,
// so that leak checkers see that it is kept and not lost.
[[gnu::cold]] void ring::abandon_detached() noexcept {
    struct kept_list {
        thread_mutex guard;
        detail::list_link head KEVRING_GUARDED_BY(guard);
    };
    static kept_list& kept = *new kept_list;
    const thread_lock lock(kept.guard);
    while (detached_.linked()) {
        detail::list_link& first = *detached_.next;
        first.unlink();
        first.insert_before(kept.head);
    }
}

// Work that was posted or scheduled to a ring that nobody has driven is run by its destructor.
[[gnu::cold]] void ring::adopt() noexcept {
    try {
        claim();
    } catch (const std::system_error&) {
        abandon();
    }
}

ring::~ring() {
    if (created_by_parent_process()) {
        abandon();
    } else {
        KEVRING_ASSERT(
            !in_iteration_,
            "ring destroyed from within its own loop; destroy it after run() or run_once() "
            "has returned");
        if (owner_.load(std::memory_order_relaxed) == 0 && has_work()) adopt();
        if (on_ring_thread() && !drain()) {
            std::fputs(
                "kevring: ring destroyed while a coroutine runs that ignores its stop: its "
                "frame leaks; end the coroutine when an await returns operation_canceled\n",
                stderr);
            abandon();
        }
    }
    if (detached_.linked()) abandon_detached();
    if (current_ring == this) current_ring = nullptr;
    if (queuing_ring == this) queuing_ring = nullptr;
    destroy_services();  // first: the pools unregister their buffers from the kernel's ring
    system_.ring_exit(*uring_);
    if (wake_fd_ >= 0) ::close(wake_fd_);
    if (event_fd_ >= 0) ::close(event_fd_);
}

}  // namespace kevring
