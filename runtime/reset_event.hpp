// reset_event.hpp: a flag that coroutines wait for.
#pragma once

#include <kevring/runtime/assert.hpp>
#include <kevring/runtime/detail/wait_list.hpp>
#include <kevring/runtime/result.hpp>

#include <mutex>
#include <utility>

namespace kevring {

/// A flag that lets every waiter pass while it is set.
///
/// `manual_reset_event` is for the coroutines of one ring, `cross_loop::manual_reset_event` for any
/// rings: then set() and reset() may be called on any thread, also on one without a ring.
///
/// Errors     Of wait(): operation_canceled and timed_out by the scope around it.
/// Order      set() resumes the waiters in the order in which they came. A waiter that set() has
///            released passes, even if reset() follows before it runs.
/// Memory     None is allocated.
/// Lifetime   Outlives the waits for it.
template <class Domain>
class basic_manual_reset_event {
public:
    explicit basic_manual_reset_event(bool set = false) noexcept : set_(set) {}
    basic_manual_reset_event(const basic_manual_reset_event&) = delete;
    basic_manual_reset_event& operator=(const basic_manual_reset_event&) = delete;
    ~basic_manual_reset_event() {
        if (waiters_.inherited()) return;
        detail::finish_guard(domain_);
        KEVRING_ASSERT(waiters_.empty(),
                       "event destroyed while a task waits for it; end its users first");
    }

    class [[nodiscard]] wait_operation final
        : public detail::wait_operation<basic_manual_reset_event, detail::wait_entry> {
    public:
        explicit wait_operation(basic_manual_reset_event& event) noexcept
            : detail::wait_operation<basic_manual_reset_event, detail::wait_entry>(event) {}
        [[nodiscard]] result<void> await_resume() const noexcept {
            if (!this->granted()) return this->failure();
            return {};
        }
        using detail::wait_operation<basic_manual_reset_event, detail::wait_entry>::ignore_stops;
    };

    /// Waits until the flag is set.
    wait_operation wait() noexcept { return wait_operation(*this); }
    /// Sets the flag and releases every waiter.
    void set() noexcept {
        const std::lock_guard inside(domain_);
        set_ = true;
        waiters_.grant_all(domain_);
    }
    void reset() noexcept {
        const std::lock_guard inside(domain_);
        set_ = false;
    }
    bool is_set() noexcept {
        const std::lock_guard inside(domain_);
        return set_;
    }

private:
    template <class, class>
    friend class detail::wait_operation;

    Domain& domain() noexcept { return domain_; }
    bool try_take(detail::wait_entry&) const noexcept { return set_; }
    void enqueue(detail::wait_entry& entry) noexcept { waiters_.push_back(entry); }
    void withdrawn(detail::wait_entry&) const noexcept {}

    Domain domain_;
    // Guarded by domain_.
    bool set_;
    detail::wait_list waiters_;
};

/// A flag that lets one waiter pass, and is reset by that.
///
/// Order      First come, first served. A set() while a coroutine waits releases the one that has
///            waited longest; else the next wait() passes at once. Several set() without a waiter
///            count as one. A wait() that was released and lost a when_any() passes the flag on.
/// Otherwise as basic_manual_reset_event.
template <class Domain>
class basic_auto_reset_event {
public:
    explicit basic_auto_reset_event(bool set = false) noexcept : set_(set) {}
    basic_auto_reset_event(const basic_auto_reset_event&) = delete;
    basic_auto_reset_event& operator=(const basic_auto_reset_event&) = delete;
    ~basic_auto_reset_event() {
        if (waiters_.inherited()) return;
        detail::finish_guard(domain_);
        KEVRING_ASSERT(waiters_.empty(),
                       "event destroyed while a task waits for it; end its users first");
    }

    class [[nodiscard]] wait_operation final
        : public detail::wait_operation<basic_auto_reset_event, detail::wait_entry> {
    public:
        explicit wait_operation(basic_auto_reset_event& event) noexcept
            : detail::wait_operation<basic_auto_reset_event, detail::wait_entry>(event) {}
        [[nodiscard]] result<void> await_resume() const noexcept {
            if (!this->granted()) return this->failure();
            return {};
        }
        bool leave() noexcept {
            if (this->granted()) this->owner().set();
            return this->granted();
        }
    };

    /// Waits until the flag is set, and resets it.
    wait_operation wait() noexcept { return wait_operation(*this); }
    void set() noexcept {
        const std::lock_guard inside(domain_);
        if (waiters_.empty())
            set_ = true;
        else
            waiters_.grant_front(domain_);
    }
    void reset() noexcept {
        const std::lock_guard inside(domain_);
        set_ = false;
    }

private:
    template <class, class>
    friend class detail::wait_operation;

    Domain& domain() noexcept { return domain_; }
    bool try_take(detail::wait_entry&) noexcept { return std::exchange(set_, false); }
    void enqueue(detail::wait_entry& entry) noexcept { waiters_.push_back(entry); }
    void withdrawn(detail::wait_entry&) const noexcept {}

    Domain domain_;
    // Guarded by domain_.
    bool set_;  // false while a coroutine waits
    detail::wait_list waiters_;
};

using manual_reset_event = basic_manual_reset_event<detail::one_loop>;
using auto_reset_event = basic_auto_reset_event<detail::one_loop>;

namespace cross_loop {
using manual_reset_event = basic_manual_reset_event<detail::cross_loop>;
using auto_reset_event = basic_auto_reset_event<detail::cross_loop>;
}  // namespace cross_loop

}  // namespace kevring
