// latch.hpp: coroutines that wait for a number of arrivals, once (latch) or in phases (barrier).
#pragma once

#include <kevring/runtime/assert.hpp>
#include <kevring/runtime/detail/wait_list.hpp>
#include <kevring/runtime/result.hpp>

#include <cstddef>
#include <mutex>

namespace kevring {

/// A counter that is counted down to 0 once, and releases every waiter then.
///
/// `latch` is for the coroutines of one ring, `cross_loop::latch` for any rings: then count_down()
/// may be called on any thread, also on one without a ring.
///
/// Errors     Of wait(): operation_canceled and timed_out by the scope around it.
/// Order      The waiters resume in the order in which they came.
/// Memory     None is allocated.
/// Lifetime   Outlives the waits for it. A waiter that was released may destroy it.
template <class Domain>
class basic_latch {
public:
    explicit basic_latch(std::size_t count) noexcept : count_(count) {}
    basic_latch(const basic_latch&) = delete;
    basic_latch& operator=(const basic_latch&) = delete;
    ~basic_latch() {
        if (waiters_.inherited()) return;
        detail::finish_guard(domain_);
        KEVRING_ASSERT(waiters_.empty(),
                       "latch destroyed while a task waits for it; end its users first");
    }

    class [[nodiscard]] wait_operation final
        : public detail::wait_operation<basic_latch, detail::wait_entry> {
    public:
        explicit wait_operation(basic_latch& latch) noexcept
            : detail::wait_operation<basic_latch, detail::wait_entry>(latch) {}
        [[nodiscard]] result<void> await_resume() const noexcept {
            if (!this->granted()) return this->failure();
            return {};
        }
    };

    void count_down(std::size_t count = 1) noexcept {
        const std::lock_guard inside(domain_);
        KEVRING_ASSERT(count <= count_,
                       "latch counted down below 0; construct it with the number of arrivals");
        count_ -= count;
        if (count_ == 0) waiters_.grant_all(domain_);
    }
    /// Waits until the counter is 0.
    wait_operation wait() noexcept { return wait_operation(*this); }
    wait_operation arrive_and_wait(std::size_t count = 1) noexcept {
        count_down(count);
        return wait_operation(*this);
    }
    bool is_open() noexcept {
        const std::lock_guard inside(domain_);
        return count_ == 0;
    }

private:
    template <class, class>
    friend class detail::wait_operation;

    Domain& domain() noexcept { return domain_; }
    bool try_take(detail::wait_entry&) const noexcept { return count_ == 0; }
    void enqueue(detail::wait_entry& entry) noexcept { waiters_.push_back(entry); }
    void withdrawn(detail::wait_entry&) const noexcept {}

    Domain domain_;
    // Guarded by domain_.
    std::size_t count_;
    detail::wait_list waiters_;
};

/// Phases: in each, a fixed number of coroutines arrive, and continue when all have.
///
/// Result     Of arrive_and_wait(): true for the coroutine that arrived last, which can do the work
///            between two phases.
/// Errors     Of arrive_and_wait(): operation_canceled and timed_out by the scope around it; the
///            arrival has been taken back then, and the phase waits for another one.
/// Otherwise as basic_latch.
template <class Domain>
class basic_barrier {
    struct entry_type : detail::wait_entry {
        entry_type() noexcept = default;
        entry_type(entry_type&&) noexcept {}
        bool last = false;
    };

public:
    explicit basic_barrier(std::size_t count) noexcept : expected_(count) {
        KEVRING_ASSERT(count != 0, "barrier of nothing; construct it with at least one arrival");
    }
    basic_barrier(const basic_barrier&) = delete;
    basic_barrier& operator=(const basic_barrier&) = delete;
    ~basic_barrier() {
        if (waiters_.inherited()) return;
        detail::finish_guard(domain_);
        KEVRING_ASSERT(waiters_.empty(),
                       "barrier destroyed while a task waits for it; end its users first");
    }

    class [[nodiscard]] arrive_operation final
        : public detail::wait_operation<basic_barrier, entry_type> {
    public:
        explicit arrive_operation(basic_barrier& barrier) noexcept
            : detail::wait_operation<basic_barrier, entry_type>(barrier) {}
        [[nodiscard]] result<bool> await_resume() noexcept {
            if (!this->granted()) return this->failure();
            return this->entry().last;
        }
    };

    arrive_operation arrive_and_wait() noexcept { return arrive_operation(*this); }
    /// This and every later phase needs one arrival less.
    void drop() noexcept {
        const std::lock_guard inside(domain_);
        KEVRING_ASSERT(expected_ > arrived_,
                       "barrier dropped below its arrivals; drop() once per "
                       "coroutine that takes part no longer");
        if (--expected_ == arrived_) complete();
    }

private:
    template <class, class>
    friend class detail::wait_operation;

    Domain& domain() noexcept { return domain_; }
    bool try_take(entry_type& entry) noexcept {
        if (++arrived_ < expected_) return false;
        entry.last = true;
        complete();
        return true;
    }
    void enqueue(entry_type& entry) noexcept { waiters_.push_back(entry); }
    void withdrawn(entry_type&) noexcept { --arrived_; }
    void complete() noexcept {
        arrived_ = 0;
        waiters_.grant_all(domain_);
    }

    Domain domain_;
    // Guarded by domain_.
    std::size_t expected_;
    std::size_t arrived_ = 0;
    detail::wait_list waiters_;
};

using latch = basic_latch<detail::one_loop>;
using barrier = basic_barrier<detail::one_loop>;

namespace cross_loop {
using latch = basic_latch<detail::cross_loop>;
using barrier = basic_barrier<detail::cross_loop>;
}  // namespace cross_loop

}  // namespace kevring
