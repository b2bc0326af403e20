// semaphore.hpp: a number of permits that coroutines acquire and release.
#pragma once

#include <kevring/runtime/assert.hpp>
#include <kevring/runtime/detail/wait_list.hpp>
#include <kevring/runtime/result.hpp>

#include <cstddef>
#include <limits>
#include <mutex>
#include <utility>

namespace kevring {

/// Permits. `semaphore` is for the coroutines of one ring, `cross_loop::semaphore` for any rings.
///
///     semaphore places(10);
///     const auto acquired = co_await places.acquire();
///     if (!acquired) co_return;
///     ...
///     places.release();
///
/// Errors     Of acquire(): operation_canceled and timed_out by the scope around it; no permit has
///            been taken then. An acquire() that lost a when_any() returns its permits.
/// Order      First come, first served, whatever the counts: a large request is not overtaken by
///            smaller ones that come later.
/// Memory     None is allocated.
/// Lifetime   Outlives the waits for it.
template <class Domain>
class basic_semaphore {
    struct entry_type : detail::wait_entry {
        explicit entry_type(std::size_t wanted_count) noexcept : count(wanted_count) {}
        entry_type(entry_type&& other) noexcept : count(other.count) {}
        std::size_t count;
    };

public:
    explicit basic_semaphore(std::size_t count) noexcept : available_(count) {}
    basic_semaphore(const basic_semaphore&) = delete;
    basic_semaphore& operator=(const basic_semaphore&) = delete;
    ~basic_semaphore() {
        if (waiters_.inherited()) return;
        detail::finish_guard(domain_);
        KEVRING_ASSERT(waiters_.empty(),
                       "semaphore destroyed while a task waits for it; end its users first");
    }

    class [[nodiscard]] acquire_operation final
        : public detail::wait_operation<basic_semaphore, entry_type> {
    public:
        acquire_operation(basic_semaphore& semaphore, std::size_t count) noexcept
            : detail::wait_operation<basic_semaphore, entry_type>(semaphore, count) {}
        [[nodiscard]] result<void> await_resume() const noexcept {
            if (!this->granted()) return this->failure();
            return {};
        }
        bool leave() noexcept {
            if (this->granted()) this->owner().release(this->entry().count);
            return this->granted();
        }
    };

    /// Waits for `count` permits and takes them together.
    acquire_operation acquire(std::size_t count = 1) noexcept { return {*this, count}; }
    /// Takes `count` permits if they are available and no coroutine waits.
    [[nodiscard]] bool try_acquire(std::size_t count = 1) noexcept {
        const std::lock_guard inside(domain_);
        if (!waiters_.empty() || available_ < count) return false;
        available_ -= count;
        return true;
    }
    /// Returns permits, or adds new ones; at most SIZE_MAX exist.
    void release(std::size_t count = 1) noexcept {
        const std::lock_guard inside(domain_);
        KEVRING_ASSERT(count <= std::numeric_limits<std::size_t>::max() - available_,
                       "semaphore released beyond SIZE_MAX; release what was acquired");
        available_ += count;
        pass_on();
    }
    /// The permits that are free at this moment.
    std::size_t available() noexcept {
        const std::lock_guard inside(domain_);
        return available_;
    }

private:
    template <class, class>
    friend class detail::wait_operation;

    Domain& domain() noexcept { return domain_; }
    bool try_take(entry_type& entry) noexcept {
        if (!waiters_.empty() || available_ < entry.count) return false;
        available_ -= entry.count;
        return true;
    }
    void enqueue(entry_type& entry) noexcept { waiters_.push_back(entry); }
    void withdrawn(entry_type&) noexcept { pass_on(); }  // the next one may ask for less
    void pass_on() noexcept {
        while (!waiters_.empty()) {
            const std::size_t count = static_cast<entry_type&>(waiters_.front()).count;
            if (available_ < count) return;
            available_ -= count;
            waiters_.grant_front(domain_);
        }
    }

    Domain domain_;
    // Guarded by domain_.
    std::size_t available_;
    detail::wait_list waiters_;
};

using semaphore = basic_semaphore<detail::one_loop>;

namespace cross_loop {
using semaphore = basic_semaphore<detail::cross_loop>;
}  // namespace cross_loop

}  // namespace kevring
