// wait_list.hpp: the threads and coroutines that wait on one queue.
#pragma once

#include <kevring/kevent/detail/async_waiter.hpp>
#include <kevring/runtime/detail/intrusive_list.hpp>

#include <cerrno>
#include <cstddef>
#include <cstdint>

#include <semaphore.h>
#include <time.h>

namespace kevring::detail {

/// The condition that ends a wait, in addition to its deadline: enough ready records or, for
/// kevent_wait(), a ready record and a free slot, or a commit that the caller does not know of.
struct wait_condition {
    unsigned min_count = 1;
    bool needs_space = false;
    unsigned old_uidx = 0;  // with needs_space
};

/// Where one thread sleeps until another one wakes it.
///
/// A semaphore, because its timed wait is a cancellation point (pthreads(7)), ends for every signal
/// handler, and continues after a stop (signal(7)).
class wake_signal {
public:
    wake_signal() noexcept { ::sem_init(&semaphore_, 0, 0); }
    wake_signal(const wake_signal&) = delete;
    wake_signal& operator=(const wake_signal&) = delete;
    ~wake_signal() { ::sem_destroy(&semaphore_); }

    void notify() noexcept { ::sem_post(&semaphore_); }
    /// `deadline` is a time of CLOCK_MONOTONIC. Result: 1 after notify(), 0 at the deadline, or
    /// -EINTR.
    int wait(const timespec& deadline) {
        if (::sem_clockwait(&semaphore_, CLOCK_MONOTONIC, &deadline) == 0) return 1;
        return errno == EINTR ? -EINTR : 0;
    }

private:
    sem_t semaphore_;
};

/// One thread inside a waiting call.
struct waiter : list_link {
    explicit waiter(const wait_condition& condition) noexcept : condition(condition) {}

    const wait_condition condition;
    bool is_notified = false;  // and has not run since
    wake_signal signal;        // while it does not lead
};

/// At most one thread, the leader, waits in the port. The others sleep until they are woken one by
/// one: for records that they can use, or to lead.
///
/// Thread     The thread that holds the queue's lock.
class waiter_list {
public:
    bool has_threads() const noexcept { return threads_.linked(); }
    waiter* leader() const noexcept { return leader_; }
    void set_leader(waiter* self) noexcept { leader_ = self; }

    void add(waiter& self) noexcept { self.insert_before(threads_); }
    void add(async_waiter& self) noexcept { self.insert_before(coroutines_); }

    /// The first waiting thread for which `is_wanted` holds, or null.
    template <class Predicate>
    waiter* find_thread(Predicate is_wanted) noexcept {
        for (list_link* link = threads_.next; link != &threads_; link = link->next)
            if (is_wanted(*static_cast<waiter*>(link))) return static_cast<waiter*>(link);
        return nullptr;
    }
    /// True if a coroutine waits for no more than `ready_count` records.
    bool has_coroutine_for(std::size_t ready_count) const noexcept {
        for (const list_link* link = coroutines_.next; link != &coroutines_; link = link->next)
            if (static_cast<const async_waiter*>(link)->min_count <= ready_count) return true;
        return false;
    }

private:
    list_link threads_;
    waiter* leader_ = nullptr;
    list_link coroutines_;
};

}  // namespace kevring::detail
