// ring.hpp: the loop of one thread: queue requests, submit and wait in one call, reap, resume.
#pragma once

#include <kevring/runtime/cancel_scope.hpp>
#include <kevring/runtime/clock.hpp>
#include <kevring/runtime/detail/intrusive_list.hpp>
#include <kevring/runtime/detail/process.hpp>
#include <kevring/runtime/kernel.hpp>
#include <kevring/runtime/ring_options.hpp>
#include <kevring/runtime/ring_service.hpp>
#include <kevring/runtime/timer_queue.hpp>
#include <kevring/runtime/work.hpp>

#include <atomic>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

struct io_uring;
struct io_uring_cqe;
struct io_uring_sqe;

namespace kevring {

class ring;

/// The target of completions: a request in flight that completes once or (multishot) many times.
class completion {
public:
    /// Called on the ring's thread. `res` is the kernel's answer: a count, or a negated errno;
    /// `flags` are those of the completion queue entry.
    virtual void complete(std::int32_t res, std::uint32_t flags) noexcept = 0;
    /// Fills all fields of a zeroed entry but user_data.
    virtual void prepare(io_uring_sqe& sqe) noexcept = 0;

protected:
    completion() = default;
    completion(const completion&) = default;
    completion& operator=(const completion&) = default;
    ~completion() = default;
};

/// Counters of a ring since its creation: a copy.
struct ring_counters {
    std::uint64_t enters = 0;            // calls of io_uring_enter()
    std::uint64_t requests = 0;          // entries queued
    std::uint64_t completions = 0;       // entries reaped
    std::uint64_t cancels = 0;           // cancel entries queued
    std::uint64_t full_submissions = 0;  // enters only because the submission queue was full
    std::uint64_t overflows = 0;         // iterations that found completions waiting in the kernel
    std::uint64_t punts = 0;             // entries of a kind that the kernel gives to workers
    std::uint64_t wakes_sent = 0;        // by this process's threads to this ring, asleep
    std::uint64_t iterations = 0;
};

namespace detail {

// constinit and initial-exec: without them, an access calls a function.

// 0 in a thread that has not driven a ring.
[[gnu::tls_model("initial-exec")]] extern constinit thread_local std::uint64_t thread_number;
// The ring whose loop this thread runs.
[[gnu::tls_model("initial-exec")]] extern constinit thread_local ring* current_ring;

/// A number that one thread writes and any thread reads.
class shared_counter {
public:
    shared_counter() noexcept = default;
    shared_counter(const shared_counter& other) noexcept : value_(other.get()) {}
    shared_counter& operator=(const shared_counter&) = delete;
    void operator++() noexcept { add(1); }
    void add(std::uint64_t count) noexcept {
        // relaxed: a counter orders nothing. One writer: no read-modify-write is needed.
        value_.store(value_.load(std::memory_order_relaxed) + count, std::memory_order_relaxed);
    }
    void store(std::uint64_t value) noexcept { value_.store(value, std::memory_order_relaxed); }
    std::uint64_t get() const noexcept { return value_.load(std::memory_order_relaxed); }

private:
    std::atomic<std::uint64_t> value_{0};
};

}  // namespace detail

/// An io_uring of one thread, and the run queue, the timers and the mailbox that belong to it.
///
/// Created in any thread; belongs to the one that first drives it, by run_until() or run_once().
///
/// In a process that fork() or clone() creates, the rings of its parent can only be destroyed,
/// which closes their descriptors there and nothing else. Every await on them ends with
/// operation_not_permitted, driving them throws std::system_error, and post() does nothing. The
/// parent is not affected. (A child of vfork() shares its parent's memory: it may only call
/// execve() or _exit(), as vfork(2) requires.)
///
/// Lifetime   Outlives every coroutine that runs on it; the destructor stops what is in flight and
///            waits for the kernel's last answer, but for detach(). A coroutine that does not
///            end after its stop, such as one that yields for ever, is given 10 000 iterations in
///            which no other request ends; then its frame leaks, it never runs again, and one line
///            on stderr reports it. Not destroyed from within its own loop.
/// Thread     Its owner's, except for post(), wake() and members that document it.
/// Errors     The constructor throws std::system_error that names what the system refuses and how
///            to allow it.
/// Kernel     Linux 6.1: SINGLE_ISSUER and DEFER_TASKRUN.
class ring {
public:
    explicit ring(ring_options options = {}, kernel& system = kernel::real());
    ring(const ring&) = delete;
    ring& operator=(const ring&) = delete;
    ~ring();

    /// The ring that this thread drives at the moment; null outside of one.
    static ring* current() noexcept { return detail::current_ring; }
    bool on_ring_thread() const noexcept {
        const std::uint64_t owner = owner_.load(std::memory_order_relaxed);
        return owner == detail::thread_number && owner != 0;
    }
    /// True if the ring has an owner, and it is not the calling thread.
    bool driven_by_another_thread() const noexcept;

    // Driving. Only programs that have a loop of their own need these; others call run().

    /// Makes the calling thread the ring's owner, if it has none; the first iteration does it too.
    ///
    /// Errors     std::system_error in a process forked from the ring's, and where the kernel does
    ///            not enable the ring. After a claim that succeeded, driving throws nothing.
    void claim();
    /// Runs iterations until `done` is true, which their work sets. Not from within an iteration.
    void run_until(const bool& done);
    /// One iteration: runs ready work, submits requests, reaps completions. Sleeps only if
    /// `may_wait`, and then until a completion, a timer or a post(). A condition that the work of
    /// the iteration makes true does not end the sleep: for that there is run_until(). Not from
    /// within an iteration of the same ring.
    void run_once(bool may_wait);

    // A loop of the program's own (epoll, another library) drives a ring by three calls: it polls
    // native_handle() for POLLIN, level-triggered, for at most poll_timeout_ms(), and then calls
    // run_once(false). examples/foreign_loop.cpp shows it.

    /// A descriptor that is readable when run_once(false) has completions to reap, and after a
    /// post() or spawn() from any thread. It is an eventfd, made by the first call, that the kernel
    /// signals: the ring's own descriptor does not wake a thread that polls it while completion
    /// work is deferred. From the first call on, a run_once() reads it, and one with completions
    /// registers it again (some 1 us). It stays the ring's: only poll it. The kernel may signal a
    /// wake-up late, so that the descriptor is readable once more without work.
    ///
    /// Errors     std::system_error without a descriptor for it, and those of claim().
    /// Thread     The ring's; claims a ring that has no owner.
    int native_handle();
    /// True if run_once(false) has something to do now: coroutines that are ready, requests to hand
    /// over, completions to reap, work posted, or timers that are due.
    ///
    /// Thread     The ring's.
    bool has_work() const noexcept;
    /// The time of the earliest timer, or steady_time::max() if there is none.
    ///
    /// Thread     The ring's.
    steady_time next_deadline() const noexcept;
    /// Milliseconds for which poll(2) or epoll_wait(2) may sleep before the next run_once(false): 0
    /// if has_work(), -1 if only a readable descriptor needs one; otherwise the time to the next
    /// timer, rounded up, at most INT_MAX.
    ///
    /// Thread     The ring's.
    int poll_timeout_ms() const noexcept;

    // Requests. None of these fails: a full submission queue is flushed first.

    /// Queues a request; the kernel sees it with the next enter. `request` stays where it is until
    /// its last complete().
    ///
    /// Result     The index of its entry in the submission queue, for withdraw().
    unsigned queue(completion& request) noexcept;
    /// Takes a request back that the kernel has not seen. True: there is no complete(). False: the
    /// kernel has the request, and complete() is still to come.
    bool withdraw(completion& request, unsigned entry_index) noexcept;
    /// Submits all that is queued, and reaps nothing. The kernel holds the files of what it has
    /// got, and has carried out what was to be cancelled.
    void submit() noexcept;
    /// Submits what the calling thread has queued if an entry names `descriptor`: called before a
    /// descriptor is closed or given away, as its number may be another file's afterwards.
    static void submit_entries_naming(int descriptor) noexcept;
    /// Queues a request that does nothing and completes with -ECANCELED in place of `request`: for
    /// one that was stopped before it began, where the caller must not continue at once.
    void refuse(completion& request) noexcept;
    /// Asks the kernel to end a request that is queued or in flight. Its complete() still comes.
    void queue_cancel(completion& request) noexcept;

    /// No task waits any more for a request whose final completion depends on a peer, as that of a
    /// zero-copy send does. The ring's destructor waits 250 ms for it; after that complete() is
    /// never called, and the request and its memory stay allocated for good: the kernel reads them.
    void detach(detail::list_link& request) noexcept;
    /// The answer has come.
    void detached_completed(detail::list_link& request) noexcept;

    // Work.

    /// Runs `item` in the next iteration, after the work that is scheduled already.
    void schedule(work& item) noexcept {
        item.next = nullptr;
        *ready_last_ = &item;
        ready_last_ = &item.next;
    }
    /// The same, from any thread; wakes the loop where it sleeps, and makes native_handle()
    /// readable where another loop drives the ring. In a child process it does nothing.
    void post(work& item) noexcept;

    // Work that another thread will post: a thread pool, a task on another loop.

    /// Announces one post_expected(). The ring's destructor waits for it, so that the awaiting frame
    /// and the ring exist as long as the other thread uses them.
    ///
    /// Thread     The ring's.
    void expect_post() noexcept { expected_posts_.fetch_add(1, std::memory_order_relaxed); }
    /// post() of an item that was announced. The ring may be destroyed as soon as `item` has run.
    ///
    /// Thread     Any.
    void post_expected(work& item) noexcept {
        post(item);
        expected_post_ended();
    }
    /// Withdraws the announcement: nothing is posted.
    ///
    /// Thread     Any.
    void expected_post_ended() noexcept {
        // release: pairs with the load in drain(), after which the ring is destroyed. last: so does
        // the ring end.
        expected_posts_.fetch_sub(1, std::memory_order_release);
    }

    // Time, and what hangs on it.

    /// Nanoseconds on the steady clock, read now.
    std::int64_t now_ns() const noexcept { return system_.steady_ns(); }
    /// The same clock, cached once per generation(); may lag by one iteration, and before the first
    /// iteration by any time. Avoids a clock read per deadline.
    std::int64_t cached_now_ns() noexcept {
        if (cached_now_generation_ != generation()) {
            cached_now_generation_ = generation();
            cached_now_ns_ = now_ns();
        }
        return cached_now_ns_;
    }
    /// Changes whenever the loop may have observed new events: from other threads when an iteration
    /// begins; from the kernel after an enter, where it may have slept in the middle of an
    /// iteration. 0 before the first iteration.
    std::uint64_t generation() const noexcept {
        return counters_.iterations.get() + counters_.enters.get();
    }
    timer_queue& timers() noexcept { return timers_; }
    /// The scope above all others: stopped when the ring is destroyed.
    cancel_scope& root_scope() noexcept { return root_scope_; }

    /// True as long as a coroutine may continue without the loop. An await that completes without
    /// the kernel calls this first, so that a stream that always has items does not starve others.
    bool spend_inline_budget() noexcept {
        if (inline_budget_ == 0 || created_by_parent_process()) return false;
        --inline_budget_;
        return true;
    }

    /// True if the calling function is nested too deeply to call further: schedule() the call
    /// instead. See detail/deep_stack.hpp.
    bool stack_is_deep() const noexcept {
        return reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0)) < stack_limit_;
    }

    /// The ring's object of type `Service`, created by `Service(ring&)` at the first use. A ring
    /// has one object of each type, so that all who run on it share it: service<buffer_pool>() is
    /// the pool that streams receive from by default.
    ///
    /// Errors     Those of the constructor; the next call tries again.
    /// Lifetime   See ring_service.
    template <std::derived_from<ring_service> Service>
    Service& service() {
        if (Service* const existing = find_service<Service>()) return *existing;
        auto created = std::make_unique<Service>(*this);
        Service& result = *created;
        store_service(std::move(created), &detail::service_key<Service>);
        return result;
    }
    /// The same object, or null before the first service<Service>().
    template <std::derived_from<ring_service> Service>
    Service* find_service() const noexcept {
        for (ring_service* entry = services_.get(); entry != nullptr; entry = entry->next_.get())
            if (entry->key_ == &detail::service_key<Service>) return static_cast<Service*>(entry);
        return nullptr;
    }
    /// A number for a group of buffers that no other pool of this ring has.
    ///
    /// Errors     std::length_error when all 65536 are in use.
    std::uint16_t acquire_buffer_group();
    void release_buffer_group(std::uint16_t group) noexcept;

    /// True in a process that was forked from the one that created the ring: there it can only be
    /// destroyed.
    bool created_by_parent_process() const noexcept {
        return detail::fork_generation() != fork_generation_;
    }
    /// io_uring_register(2) on this ring.
    ///
    /// Errors     -EPERM in a process that was forked from the ring's, without a system call.
    int register_resource(unsigned opcode, void* argument, unsigned count) noexcept;

    kernel& system() const noexcept { return system_; }
    /// The ring's own structure, for registrations (buffer rings and the like).
    io_uring& native() noexcept { return *uring_; }
    /// The counters at this moment. Each is exact on the ring's thread; on another it may lag, and two
    /// of them may be of different moments.
    ///
    /// Thread     Any, without a lock.
    ring_counters counters() const noexcept;
    std::size_t requests_in_flight() const noexcept { return in_flight_; }
    /// True once the destructor has begun: new requests end with operation_canceled.
    bool closing() const noexcept { return closing_; }

private:
    // ring_counters, as the ring writes it.
    struct counter_cells {
        detail::shared_counter enters, requests, completions, cancels, full_submissions, overflows,
            punts, wakes_sent, iterations;
    };
    // One answer of the kernel, kept where it could not stay in the completion queue.
    struct saved_completion {
        std::uint64_t user_data;
        std::int32_t res;
        std::uint32_t flags;
    };

    void set_up();
    void arm_wake();
    void wake() noexcept;

    bool take_posted() noexcept;
    bool run_ready() noexcept;
    bool only_coroutines_have_work() const noexcept;
    std::int64_t fire_timers() noexcept;
    void enter(bool may_wait, std::int64_t timeout_ns) noexcept;
    bool mark_asleep() noexcept;
    bool has_posted() const noexcept;
    bool spin_for_work(std::int64_t timeout_ns) noexcept;
    void reap() noexcept;
    void dispatch(std::uint64_t user_data, std::int32_t res, std::uint32_t flags) noexcept;
    io_uring_sqe& next_entry() noexcept;
    void flush_full_queue() noexcept;
    void submit_down_to(unsigned count_max) noexcept;
    void save_completions() noexcept;
    void cancel_everything() noexcept;
    void store_service(std::unique_ptr<ring_service> created, const void* key) noexcept;
    void destroy_services() noexcept;
    bool drain() noexcept;
    void abandon() noexcept;
    void adopt() noexcept;
    void reset_event_fd() noexcept;
    void abandon_detached() noexcept;
    unsigned unsubmitted() const noexcept;
    bool completions_ready() const noexcept;
    bool kernel_has_work() const noexcept;

    // Constant after construction.
    kernel& system_;
    const ring_options options_;
    std::unique_ptr<io_uring> uring_;
    unsigned* sq_head_ = nullptr;  // these point into what the kernel shares
    unsigned* sq_tail_ = nullptr;
    unsigned* sq_flags_ = nullptr;
    unsigned* cq_head_ = nullptr;
    unsigned* cq_tail_ = nullptr;
    io_uring_sqe* sqes_ = nullptr;
    io_uring_cqe* cqes_ = nullptr;
    unsigned sq_entries_ = 0;
    unsigned sq_mask_ = 0;
    unsigned cq_mask_ = 0;
    unsigned wait_flags_ = 0;
    const unsigned fork_generation_ = detail::fork_generation();
    bool wake_by_message_ = false;  // else by an eventfd
    bool system_is_real_ = false;   // then it holds no completions
    int wake_fd_ = -1;
    // Of native_handle(), once it was called. Written on the ring's thread, read on any.
    std::atomic<int> event_fd_{-1};
    std::uint64_t event_fd_completions_ = 0;  // counted when it was registered last

    // Written on the ring's thread.
    std::atomic<std::uint64_t> owner_{0};  // read on any
    unsigned entry_tail_ = 0;              // entries filled; the kernel knows up to *sq_tail_
    unsigned inline_budget_ = 0;
    std::uintptr_t stack_limit_ = 0;  // an address: the stack grows downwards
    std::size_t in_flight_ = 0;
    detail::list_link detached_;      // requests that the ring's end does not wait for
    std::size_t detached_count_ = 0;  // of those in flight
    bool closing_ = false;
    bool in_iteration_ = false;
    const bool* done_flag_ = nullptr;  // what run_until() waits for
    work* ready_first_ = nullptr;
    work** ready_last_ = &ready_first_;
    std::vector<saved_completion> saved_;
    std::vector<std::uint16_t> free_buffer_groups_;
    unsigned buffer_groups_made_ = 0;
    std::unique_ptr<ring_service> services_;  // the newest first
    timer_queue timers_;
    cancel_scope root_scope_{*this};
    counter_cells counters_;  // read on any thread
    std::uint64_t cached_now_generation_ = ~std::uint64_t{0};
    std::int64_t cached_now_ns_ = 0;

    // Written on any thread: the mailbox, newest first, or the mark of a sleeping ring.
    alignas(64) std::atomic<work*> posted_{nullptr};
    std::atomic<std::uint64_t> wakes_sent_{0};
    std::atomic<std::size_t> expected_posts_{0};
};

}  // namespace kevring
