// thread_mutex.hpp: a mutex of threads, its lock and its condition variable, with annotations for clang.
//
// The classes of libstdc++ have no annotations, so clang cannot see which of them guards a member.
// A class names the mutex beside each member that it guards, and clang's -Wthread-safety, an error
// in every clang build of this project, rejects an access without the lock:
//
//     mutable thread_mutex mutex_;
//     std::string text_ KEVRING_GUARDED_BY(mutex_);
//     void append(std::string_view more) KEVRING_REQUIRES(mutex_);
#pragma once

#include <kevring/runtime/detail/language.hpp>

#include <chrono>
#include <condition_variable>
#include <mutex>

#if defined(__clang__)
#define KEVRING_THREAD_ANNOTATION(...) __attribute__((__VA_ARGS__))
#else
#define KEVRING_THREAD_ANNOTATION(...)
#endif

/// Of a class: its objects can be held, and guard data.
#define KEVRING_CAPABILITY(name) KEVRING_THREAD_ANNOTATION(capability(name))
/// Of a class: its objects hold a mutex from construction to destruction.
#define KEVRING_SCOPED_CAPABILITY KEVRING_THREAD_ANNOTATION(scoped_lockable)
/// Of a member: only a thread that holds the mutex reads or writes it.
#define KEVRING_GUARDED_BY(...) KEVRING_THREAD_ANNOTATION(guarded_by(__VA_ARGS__))
/// Of a pointer: only a thread that holds the mutex reads or writes the object.
#define KEVRING_PT_GUARDED_BY(...) KEVRING_THREAD_ANNOTATION(pt_guarded_by(__VA_ARGS__))
/// Of a function: the caller holds the mutex, before and after the call.
#define KEVRING_REQUIRES(...) KEVRING_THREAD_ANNOTATION(requires_capability(__VA_ARGS__))
/// Of a function: the caller does not hold the mutex; the function may lock it.
#define KEVRING_EXCLUDES(...) KEVRING_THREAD_ANNOTATION(locks_excluded(__VA_ARGS__))
/// Of a function: it locks the mutex and returns with it.
#define KEVRING_ACQUIRE(...) KEVRING_THREAD_ANNOTATION(acquire_capability(__VA_ARGS__))
/// Of a function: it unlocks the mutex of its caller.
#define KEVRING_RELEASE(...) KEVRING_THREAD_ANNOTATION(release_capability(__VA_ARGS__))
/// Of a function: it has locked the mutex if it returns the first argument.
#define KEVRING_TRY_ACQUIRE(...) KEVRING_THREAD_ANNOTATION(try_acquire_capability(__VA_ARGS__))
/// Of a function: tells clang that the mutex is held, where the types cannot show it. State why.
#define KEVRING_ASSERT_HELD(...) KEVRING_THREAD_ANNOTATION(assert_capability(__VA_ARGS__))
/// Of a function: it returns a reference to the mutex.
#define KEVRING_RETURNS_MUTEX(...) KEVRING_THREAD_ANNOTATION(lock_returned(__VA_ARGS__))
/// Of a function: clang does not check its body. State the reason beside it.
#define KEVRING_UNCHECKED_LOCKS KEVRING_THREAD_ANNOTATION(no_thread_safety_analysis)

namespace kevring {

/// std::mutex with annotations. It blocks a thread: coroutines wait for a `mutex` instead, without
/// blocking their loop.
///
/// Thread     Any.
class KEVRING_CAPABILITY("mutex") thread_mutex {
public:
    thread_mutex() noexcept = default;
    thread_mutex(const thread_mutex&) = delete;
    thread_mutex& operator=(const thread_mutex&) = delete;

    void lock() KEVRING_ACQUIRE() { native_.lock(); }
    bool try_lock() KEVRING_TRY_ACQUIRE(true) { return native_.try_lock(); }
    void unlock() KEVRING_RELEASE() { native_.unlock(); }
    /// For the places that clang cannot follow, such as a virtual function whose contract is that
    /// the caller holds the mutex of another object.
    void assert_held() const noexcept KEVRING_ASSERT_HELD(this) {}

private:
    friend class thread_lock;

    std::mutex native_;
};

/// Holds a mutex until the end of a scope. unlock() and lock() interrupt that.
///
/// Lifetime   The mutex outlives the lock.
/// Thread     The thread that created it.
class KEVRING_SCOPED_CAPABILITY thread_lock {
public:
    explicit thread_lock(thread_mutex& guarding) KEVRING_ACQUIRE(guarding)
        : native_(guarding.native_) {}
    thread_lock(const thread_lock&) = delete;
    thread_lock& operator=(const thread_lock&) = delete;
    ~thread_lock() KEVRING_RELEASE() {}

    void lock() KEVRING_ACQUIRE() { native_.lock(); }
    void unlock() KEVRING_RELEASE() { native_.unlock(); }
    bool held() const noexcept { return native_.owns_lock(); }

private:
    friend class thread_condition;

    std::unique_lock<std::mutex> native_;
};

/// std::condition_variable for a thread_lock. It offers no predicates, because clang checks a lambda
/// apart from its caller's lock: call wait() in a loop that tests the condition.
///
/// Lifetime   No thread waits when it is destroyed.
/// Thread     Any.
class thread_condition {
public:
    void notify_one() noexcept { native_.notify_one(); }
    void notify_all() noexcept { native_.notify_all(); }

    /// Unlocks, sleeps until a notification or a spurious wake-up, and locks again.
    void wait(thread_lock& lock) { native_.wait(lock.native_); }
    /// The same, until `deadline` at the latest.
    template <class Clock, class Duration>
    std::cv_status wait_until(thread_lock& lock,
                              const std::chrono::time_point<Clock, Duration>& deadline) {
        return native_.wait_until(lock.native_, deadline);
    }
    template <class Rep, class Period>
    std::cv_status wait_for(thread_lock& lock, const std::chrono::duration<Rep, Period>& timeout) {
        return native_.wait_for(lock.native_, timeout);
    }

private:
    std::condition_variable native_;
};

}  // namespace kevring
