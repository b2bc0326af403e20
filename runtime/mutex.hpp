// mutex.hpp: mutual exclusion of coroutines, exclusive or shared.
#pragma once

#include <kevring/runtime/assert.hpp>
#include <kevring/runtime/detail/wait_list.hpp>
#include <kevring/runtime/result.hpp>

#include <cstddef>
#include <mutex>
#include <optional>
#include <utility>

namespace kevring {

template <class Domain>
class basic_condition;

/// Ownership of a mutex, or of one side of a shared_mutex: released when it is destroyed.
///
/// Lifetime   Within the life of the mutex.
/// Thread     A guard may be destroyed on any thread from which the mutex may be used.
template <class Mutex>
class [[nodiscard]] lock_guard {
public:
    explicit lock_guard(Mutex& mutex, bool shared = false) noexcept
        : mutex_(&mutex), shared_(shared) {}
    lock_guard(lock_guard&& other) noexcept
        : mutex_(std::exchange(other.mutex_, nullptr)), shared_(other.shared_) {}
    lock_guard& operator=(lock_guard&& other) noexcept {
        if (this != &other) {
            unlock();
            mutex_ = std::exchange(other.mutex_, nullptr);
            shared_ = other.shared_;
        }
        return *this;
    }
    ~lock_guard() { unlock(); }

    bool owns_lock() const noexcept { return mutex_ != nullptr; }
    /// Releases the mutex now. Without ownership it does nothing.
    void unlock() noexcept {
        if (mutex_ != nullptr) std::exchange(mutex_, nullptr)->release(shared_);
    }

private:
    template <class Domain>
    friend class basic_condition;
    Mutex* mutex_;
    bool shared_;
};

/// Mutual exclusion of coroutines. A coroutine that waits is suspended, and its thread continues.
///
///     auto guard = co_await m.lock();
///     if (!guard) co_return;  // stopped while it waited
///     change_what_is_guarded();
///
/// `mutex` is for the coroutines of one ring: use it where a critical section contains an await.
/// `cross_loop::mutex` is for coroutines of any rings.
///
/// Result     Of lock(): a guard that releases the mutex. lock() that lost a when_any() releases it.
/// Errors     Of lock(): operation_canceled and timed_out by the scope around it; the mutex is not
///            held then.
/// Order      First come, first served: unlock() passes the mutex to the waiter that has waited
///            longest, and no other coroutine can take it in between.
/// Memory     None is allocated.
/// Lifetime   Outlives its guards and the waits for it.
template <class Domain>
class basic_mutex {
public:
    using guard = lock_guard<basic_mutex>;

    basic_mutex() noexcept = default;
    basic_mutex(const basic_mutex&) = delete;
    basic_mutex& operator=(const basic_mutex&) = delete;
    ~basic_mutex() {
        if (waiters_.inherited()) return;
        detail::finish_guard(domain_);
        KEVRING_ASSERT(!locked_, "mutex destroyed while it is locked; end its users first");
    }

    class [[nodiscard]] lock_operation final
        : public detail::wait_operation<basic_mutex, detail::wait_entry> {
    public:
        explicit lock_operation(basic_mutex& mutex) noexcept
            : detail::wait_operation<basic_mutex, detail::wait_entry>(mutex) {}
        [[nodiscard]] result<guard> await_resume() noexcept {
            if (!this->granted()) return this->failure();
            return guard(this->owner());
        }
        bool leave() noexcept {
            if (this->granted()) this->owner().release(false);
            return this->granted();
        }
        using detail::wait_operation<basic_mutex, detail::wait_entry>::ignore_stops;
    };

    lock_operation lock() noexcept { return lock_operation(*this); }
    /// The mutex if it is free and no coroutine waits for it.
    [[nodiscard]] std::optional<guard> try_lock() noexcept {
        const std::lock_guard inside(domain_);
        if (locked_) return std::nullopt;
        locked_ = true;
        return guard(*this);
    }

private:
    template <class, class>
    friend class detail::wait_operation;
    friend guard;

    Domain& domain() noexcept { return domain_; }
    bool try_take(detail::wait_entry&) noexcept {
        if (locked_) return false;  // also while others wait: it is passed on
        locked_ = true;
        return true;
    }
    void enqueue(detail::wait_entry& entry) noexcept { waiters_.push_back(entry); }
    void withdrawn(detail::wait_entry&) noexcept {}
    void release(bool) noexcept {
        const std::lock_guard inside(domain_);
        if (waiters_.empty())
            locked_ = false;
        else
            waiters_.grant_front(domain_);
    }

    Domain domain_;
    // Guarded by domain_.
    bool locked_ = false;
    detail::wait_list waiters_;
};

/// A mutex with many readers or one writer.
///
///     auto guard = co_await m.lock_shared();
///
/// Order      First come, first served: a reader that comes after a waiting writer waits for it, so
///            that neither side starves. Readers that wait next to each other are let in together.
/// Otherwise as basic_mutex.
template <class Domain>
class basic_shared_mutex {
    struct entry_type : detail::wait_entry {
        explicit entry_type(bool is_shared) noexcept : shared(is_shared) {}
        entry_type(entry_type&& other) noexcept : shared(other.shared) {}
        bool shared;
    };

public:
    using guard = lock_guard<basic_shared_mutex>;

    basic_shared_mutex() noexcept = default;
    basic_shared_mutex(const basic_shared_mutex&) = delete;
    basic_shared_mutex& operator=(const basic_shared_mutex&) = delete;
    ~basic_shared_mutex() {
        if (waiters_.inherited()) return;
        detail::finish_guard(domain_);
        KEVRING_ASSERT(!written_ && reader_count_ == 0,
                       "mutex destroyed while it is locked; end its users first");
    }

    class [[nodiscard]] lock_operation final
        : public detail::wait_operation<basic_shared_mutex, entry_type> {
    public:
        lock_operation(basic_shared_mutex& mutex, bool shared) noexcept
            : detail::wait_operation<basic_shared_mutex, entry_type>(mutex, shared) {}
        [[nodiscard]] result<guard> await_resume() noexcept {
            if (!this->granted()) return this->failure();
            return guard(this->owner(), this->entry().shared);
        }
        bool leave() noexcept {
            if (this->granted()) this->owner().release(this->entry().shared);
            return this->granted();
        }
    };

    lock_operation lock() noexcept { return lock_operation(*this, false); }
    lock_operation lock_shared() noexcept { return lock_operation(*this, true); }
    [[nodiscard]] std::optional<guard> try_lock() noexcept { return try_side(false); }
    [[nodiscard]] std::optional<guard> try_lock_shared() noexcept { return try_side(true); }

private:
    template <class, class>
    friend class detail::wait_operation;
    friend guard;

    Domain& domain() noexcept { return domain_; }
    bool fits(bool shared) const noexcept { return !written_ && (shared || reader_count_ == 0); }
    void hold(bool shared) noexcept {
        if (shared)
            ++reader_count_;
        else
            written_ = true;
    }
    bool try_take(entry_type& entry) noexcept {
        if (!waiters_.empty() || !fits(entry.shared)) return false;
        hold(entry.shared);
        return true;
    }
    void enqueue(entry_type& entry) noexcept { waiters_.push_back(entry); }
    void withdrawn(entry_type&) noexcept { pass_on(); }  // readers behind a writer may enter now
    void pass_on() noexcept {
        while (!waiters_.empty()) {
            const bool shared = static_cast<entry_type&>(waiters_.front()).shared;
            if (!fits(shared)) return;
            hold(shared);
            waiters_.grant_front(domain_);
        }
    }
    void release(bool shared) noexcept {
        const std::lock_guard inside(domain_);
        if (shared)
            --reader_count_;
        else
            written_ = false;
        pass_on();
    }
    std::optional<guard> try_side(bool shared) noexcept {
        const std::lock_guard inside(domain_);
        if (!waiters_.empty() || !fits(shared)) return std::nullopt;
        hold(shared);
        return guard(*this, shared);
    }

    Domain domain_;
    // Guarded by domain_.
    bool written_ = false;
    std::size_t reader_count_ = 0;
    detail::wait_list waiters_;
};

using mutex = basic_mutex<detail::one_loop>;
using shared_mutex = basic_shared_mutex<detail::one_loop>;

namespace cross_loop {
using mutex = basic_mutex<detail::cross_loop>;
using shared_mutex = basic_shared_mutex<detail::cross_loop>;
}  // namespace cross_loop

}  // namespace kevring
