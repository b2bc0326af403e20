// wait_list.hpp: coroutines that wait for each other in order of arrival; the base of mutex,
// semaphore, channel and the other primitives.
//
// A primitive keeps its state and lists of wait_entry, guarded by a domain. one_loop is for
// coroutines of one ring and costs nothing. cross_loop is for coroutines of any rings: a mutex that
// is held for a few instructions and never while a thread sleeps.
//
// A primitive grants the first entry, under the guard of the domain. A granted entry is in no list,
// and a stop does not reach it any more: one suspension has one outcome. The entry resumes from the
// run queue of its own ring, so that no primitive runs a coroutine inside of its own call.
#pragma once

#include <kevring/runtime/assert.hpp>
#include <kevring/runtime/cancel_scope.hpp>
#include <kevring/runtime/detail/intrusive_list.hpp>
#include <kevring/runtime/detail/process.hpp>
#include <kevring/runtime/operation.hpp>
#include <kevring/runtime/result.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/work.hpp>

#include <coroutine>
#include <cstddef>
#include <mutex>
#include <system_error>
#include <utility>

namespace kevring::detail {

/// One place in a wait_list.
struct wait_entry : list_link {
    wait_entry() noexcept = default;
    /// Moves an entry that was never in a list.
    wait_entry(wait_entry&&) noexcept : wait_entry() {}

    ring* loop = nullptr;    // on which it resumes; constant while it is in a list
    work* resume = nullptr;  // constant while it is in a list
    bool granted = false;    // guarded by the domain until it resumes
};

/// Entries in order of arrival. Guarded by the domain of its primitive.
class wait_list {
public:
    bool empty() const noexcept { return !head_.linked(); }
    /// True in a process that was forked from the one that made the list: the waiters, and a thread that
    /// may hold the guard, are the parent's. The destructor of a primitive does nothing there.
    bool inherited() const noexcept { return fork_generation_ != fork_generation(); }
    wait_entry& front() noexcept { return static_cast<wait_entry&>(*head_.next); }
    void push_back(wait_entry& entry) noexcept { entry.insert_before(head_); }

    /// Removes the first entry and lets it resume. Not on an empty list.
    template <class Domain>
    void grant_front(Domain& domain) noexcept {
        wait_entry& entry = front();
        entry.unlink();
        entry.granted = true;
        domain.resume(entry);  // last: the entry may be destroyed at once if it is on another loop
    }
    template <class Domain>
    void grant_all(Domain& domain) noexcept {
        while (!empty()) grant_front(domain);
    }

private:
    list_link head_;
    const unsigned fork_generation_ = fork_generation();
};

/// The domain of primitives whose coroutines run on one ring.
class one_loop {
public:
    void lock() const noexcept {}
    void unlock() const noexcept {}
    static void resume(wait_entry& entry) noexcept { entry.loop->schedule(*entry.resume); }
};

/// The domain of primitives whose coroutines run on several rings.
class cross_loop {
public:
    void lock() noexcept { mutex_.lock(); }
    void unlock() noexcept { mutex_.unlock(); }
    /// Called under the lock: a ring that stops its coroutines before it is destroyed finds this
    /// entry either in the list or in its own mailbox.
    static void resume(wait_entry& entry) noexcept {
        if (entry.loop->on_ring_thread())
            entry.loop->schedule(*entry.resume);
        else
            entry.loop->post(*entry.resume);
    }

private:
    std::mutex mutex_;
};

/// Destroys nothing before a thread that has granted the last entry has left the guard.
template <class Domain>
void finish_guard(Domain& domain) noexcept {
    domain.lock();
    domain.unlock();
}

/// The await of an Owner, which has these members, all called under the guard of `domain()`:
///
///     Domain& domain();
///     bool try_take(Entry&);     // true: granted without waiting
///     void enqueue(Entry&);      // after try_take() has returned false
///     void withdrawn(Entry&);    // the entry has left the list because it was stopped
///
/// Entry derives from wait_entry. A stop that comes before the await begins, or while the entry
/// waits, ends the await with operation_canceled, or timed_out by a deadline. In a process that was
/// forked from the ring's it ends with operation_not_permitted.
///
/// Lifetime   Lives in the awaiting coroutine's frame. The owner outlives the wait: the coroutine that
///            was resumed may destroy it, if no other wait is pending.
/// Thread     That of the ring on which the awaiting coroutine runs.
template <class Owner, class Entry>
class wait_operation : private cancel_hook, private work {
public:
    template <class... Arguments>
    explicit wait_operation(Owner& owner, Arguments&&... arguments)
        : cancel_hook(stopped),
          work(resumed),
          owner_(&owner),
          entry_(std::forward<Arguments>(arguments)...) {}
    wait_operation(wait_operation&& other) noexcept
        : cancel_hook(stopped),
          work(resumed),
          owner_(other.owner_),
          entry_(std::move(other.entry_)) {
        KEVRING_ASSERT(!other.waiter_,
                       "wait moved after it was awaited; keep it where it was awaited");
    }
    wait_operation& operator=(wait_operation&&) = delete;

    bool await_ready() const noexcept { return false; }  // await_suspend() knows the scope
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> waiter) noexcept {
        return start(waiter, scope_of(waiter));
    }

protected:
    ~wait_operation() = default;

    Owner& owner() const noexcept { return *owner_; }
    Entry& entry() noexcept { return entry_; }
    bool granted() const noexcept { return entry_.granted; }
    tl::unexpected<std::error_code> failure() const noexcept {
        if (refused_) [[unlikely]]
            return error_from(std::errc::operation_not_permitted);
        return error_from(cause_ == stop_cause::deadline ? std::errc::timed_out
                                                         : std::errc::operation_canceled);
    }
    /// The await ignores stops: for what must be done before a coroutine may end.
    void ignore_stops() noexcept { ignores_stops_ = true; }

    /// True: the coroutine is suspended. It cannot resume before this has returned to its loop.
    bool start(std::coroutine_handle<> waiter, cancel_scope* scope) noexcept {
        ring* const loop = scope != nullptr ? &scope->loop() : ring::current();
        KEVRING_ASSERT(loop != nullptr && loop->on_ring_thread(),
                       "wait awaited on a thread that does not drive its ring; await it in a task "
                       "that run() or spawn() started");
        KEVRING_ASSERT(!waiter_, "wait awaited twice; create one wait per await");
        if (scope == nullptr) scope = &loop->root_scope();  // a coroutine of another library
        if (loop->created_by_parent_process()) [[unlikely]] {
            refused_ = true;
            return false;
        }
        if (!ignores_stops_ && scope->stop_requested()) {
            cause_ = scope->cause();
            return false;
        }
        waiter_ = waiter;
        entry_.loop = loop;
        entry_.resume = this;
        bool taken = false;
        {
            const std::lock_guard guard(owner_->domain());
            taken = owner_->try_take(entry_);
            if (taken)
                entry_.granted = true;
            else
                owner_->enqueue(entry_);
        }
        if (taken) {
            if (loop->spend_inline_budget()) return false;
            loop->schedule(*this);  // other coroutines run first
            return true;
        }
        // A stop comes from this thread, so the hook may follow the entry.
        if (!ignores_stops_) scope->add(*this);
        return true;
    }

private:
    static void stopped(cancel_hook& hook, stop_cause cause) noexcept {
        auto& self = static_cast<wait_operation&>(hook);
        const std::lock_guard guard(self.owner_->domain());
        if (!self.entry_.linked()) return;  // granted, or stopped already: it resumes anyway
        self.entry_.unlink();
        self.cause_ = cause;
        self.entry_.loop->schedule(self);  // on this thread, so it runs later
        self.owner_->withdrawn(self.entry_);
    }
    static void resumed(work& item) noexcept {
        auto& self = static_cast<wait_operation&>(item);
        // The thread that granted this may still be inside of post(), and the coroutine may be the
        // last before its ring is destroyed: that thread leaves the guard first.
        if (self.entry_.granted) finish_guard(self.owner_->domain());
        self.cancel_hook::unlink();
        self.waiter_.resume();  // last: the frame, and this object in it, may be destroyed
    }

    Owner* owner_;
    Entry entry_;
    std::coroutine_handle<> waiter_;
    stop_cause cause_ = stop_cause::none;
    bool ignores_stops_ = false;
    bool refused_ = false;  // in a process forked from the ring's
};

}  // namespace kevring::detail
