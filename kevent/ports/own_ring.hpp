// own_ring.hpp: the io_uring of a ring_port, mapped and used without liburing's queues.
#pragma once

#include <kevring/kevent/ports/cancellable_enter.hpp>
#include <kevring/kevent/ports/completion_order.hpp>
#include <kevring/kevent/ports/handler_watch.hpp>
#include <kevring/runtime/detail/hidden_fd.hpp>
#include <kevring/runtime/detail/uring.hpp>
#include <kevring/runtime/features.hpp>
#include <kevring/runtime/kernel.hpp>

#include <cerrno>
#include <cstdint>
#include <system_error>
#include <utility>

namespace kevring::detail {

// The io_uring, made disabled: the thread that enables it is its owner.
class own_ring {
    // Changes that one enter submits at most; a larger batch takes several.
    static constexpr unsigned submission_entries = 256;
    // The kernel delivers some 20 completions in one enter, and the port takes them after each.
    static constexpr unsigned completion_entries = 1024;

public:
    /// Registers the eventfd `event_number`, unless it is -1.
    explicit own_ring(int event_number) {
        io_uring_params params{};
        params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                       IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE |
                       IORING_SETUP_CLAMP | IORING_SETUP_R_DISABLED;
        params.cq_entries = completion_entries;
        int error = 0;
        fd_ = hidden_fd::open([&]() noexcept {
            error = kernel::real().ring_setup(submission_entries, params, ring_);
            return error < 0 ? -1 : ring_.ring_fd;
        });
        if (error < 0)
            throw std::system_error(-error, std::system_category(), explain_ring_failure(-error));
        if (!fd_) {
            error = errno;
            unmap();
            throw std::system_error(error, std::system_category(), "io_uring_setup");
        }
        // A mapping in the child of a fork would keep the ring, and the registered files.
        io_uring_ring_dontfork(&ring_);
        if (ring_.sq.array != nullptr)
            for (unsigned i = 0; i < params.sq_entries; ++i) ring_.sq.array[i] = i;
        entry_count_ = params.sq_entries;
        completion_mask_ = params.cq_entries - 1;
        tail_ = *ring_.sq.ktail;
        if (const int failure = event_number < 0 ? 0 : register_event(event_number); failure < 0) {
            unmap();
            throw std::system_error(-failure, std::system_category(), "io_uring_register");
        }
    }
    own_ring(const own_ring&) = delete;
    ~own_ring() {
        if (fd_) unmap();  // in the child of a fork nothing is mapped
    }

    int number() const noexcept { return fd_.number(); }
    int register_event(int number) noexcept {
        return kernel::real().ring_register(ring_, IORING_REGISTER_EVENTFD, &number, 1);
    }
    void unregister_event() noexcept {
        kernel::real().ring_register(ring_, IORING_UNREGISTER_EVENTFD, nullptr, 0);
    }
    int enable() noexcept {
        return kernel::real().ring_register(ring_, IORING_REGISTER_ENABLE_RINGS, nullptr, 0);
    }

    /// Null: the queue of submissions is full.
    io_uring_sqe* next_entry() noexcept {
        if (tail_ - load(ring_.sq.khead) >= entry_count_) return nullptr;
        io_uring_sqe* const entry = &ring_.sq.sqes[tail_++ & (entry_count_ - 1)];
        *entry = io_uring_sqe{};
        return entry;
    }
    unsigned room() const noexcept { return entry_count_ - unsubmitted_count(); }
    unsigned unsubmitted_count() const noexcept { return tail_ - load(ring_.sq.khead); }
    /// True if an enter delivers completions.
    bool has_work() const noexcept {
        // acquire: what the kernel did before it set the flag.
        return (load(ring_.sq.kflags) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
    }
    /// Submits, and delivers what has completed. A kernel that reverses completions submits in a
    /// call of its own, and delivers in the next round: the completions of submissions come in order,
    /// and nothing distinguishes those from the others. Completions that had no room are delivered
    /// first: Linux 6.1 submits nothing before (EBUSY), and would never deliver them in a call that only
    /// submits.
    int enter() noexcept {
        // release: the entries are written.
        __atomic_store_n(ring_.sq.ktail, tail_, __ATOMIC_RELEASE);
        const bool overflowed = (load(ring_.sq.kflags) & IORING_SQ_CQ_OVERFLOW) != 0;
        const unsigned count = overflowed ? 0 : unsubmitted_count();
        const bool submits_only = kernel_reverses_ && count != 0;
        is_reversed_ = kernel_reverses_ && !submits_only && !overflowed;
        return kernel::real().ring_enter(ring_, count, 0, submits_only ? 0 : IORING_ENTER_GETEVENTS,
                                         nullptr);
    }
    /// Submits, sleeps until there is a completion, and delivers it. A cancellation point.
    ///
    /// Result     As io_uring_enter(2). -EINTR: not after a signal handler; see handler_watch.
    int sleep(const timespec* timeout) {
        // release: the entries are written.
        __atomic_store_n(ring_.sq.ktail, tail_, __ATOMIC_RELEASE);
        if (kernel_reverses_ && unsubmitted_count() != 0)
            static_cast<void>(kernel::real().ring_enter(ring_, unsubmitted_count(), 0, 0, nullptr));
        const std::uint64_t blocked = handler_watch::blocked_signals();
        __kernel_timespec time{};
        io_uring_getevents_arg argument{};
        argument.sigmask = reinterpret_cast<std::uintptr_t>(&blocked);
        argument.sigmask_sz = sizeof blocked;
        if (timeout != nullptr) {
            time.tv_sec = timeout->tv_sec;
            time.tv_nsec = timeout->tv_nsec;
            argument.ts = reinterpret_cast<std::uintptr_t>(&time);
        }
        is_reversed_ = kernel_reverses_ && unsubmitted_count() == 0;
        return cancellable_enter(ring_.ring_fd, unsubmitted_count(), argument);
    }
    /// True if completions can be taken.
    bool has_completions() const noexcept { return *ring_.cq.khead != load(ring_.cq.ktail); }
    /// True if the kernel signals the eventfd for a completion.
    bool signals_event() const noexcept {
        return (*ring_.cq.kflags & IORING_CQ_EVENTFD_DISABLED) == 0;
    }
    void set_signals_event(bool enabled) noexcept {
        __atomic_store_n(ring_.cq.kflags, enabled ? 0U : IORING_CQ_EVENTFD_DISABLED,
                         __ATOMIC_RELAXED);
        // seq_cst: before a following has_work(). The kernel sets its flag first and reads this one
        // afterwards, so that a completion is seen here, or signalled there.
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
    }
    /// True if `is_wanted` holds for the user data of a completion that was not taken.
    template <class Predicate>
    bool has_completion(Predicate is_wanted) const noexcept {
        const unsigned tail = load(ring_.cq.ktail);
        for (unsigned head = *ring_.cq.khead; head != tail; ++head)
            if (is_wanted(ring_.cq.cqes[head & completion_mask_].user_data)) return true;
        return false;
    }
    /// Calls `complete` for each completion, in the order of the events, and frees its entry.
    template <class Complete>
    void take(Complete complete) noexcept {
        const unsigned head = *ring_.cq.khead;
        const unsigned tail = load(ring_.cq.ktail);
        if (head == tail) return;
        const bool reversed = std::exchange(is_reversed_, false);
        for (unsigned i = 0; i != tail - head; ++i) {
            const unsigned place = reversed ? tail - 1 - i : head + i;
            const io_uring_cqe& entry = ring_.cq.cqes[place & completion_mask_];
            complete(entry.user_data, entry.res, entry.flags);
        }
        // release: the entries are read, and the kernel may write them.
        __atomic_store_n(ring_.cq.khead, tail, __ATOMIC_RELEASE);
    }
    /// True once for each time that the kernel had no memory for a completion.
    bool has_lost_completions() noexcept {
        return std::exchange(lost_count_, load(ring_.cq.koverflow)) != lost_count_;
    }

private:
    static unsigned load(const unsigned* word) noexcept {
        return __atomic_load_n(word, __ATOMIC_ACQUIRE);
    }
    void unmap() noexcept {
        ring_.ring_fd = ring_.enter_ring_fd = -1;  // fd_ closes it
        kernel::real().ring_exit(ring_);
    }

    hidden_fd fd_;
    io_uring ring_{};
    unsigned entry_count_ = 0;
    unsigned completion_mask_ = 0;
    unsigned tail_ = 0;
    unsigned lost_count_ = 0;
    const bool kernel_reverses_ = reverses_completions();
    bool is_reversed_ = false;  // what the last enter has delivered
};

}  // namespace kevring::detail
