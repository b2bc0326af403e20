// thread_pool.hpp: threads for calls that block and for work that would hold up a loop.
#pragma once

#include <kevring/runtime/assert.hpp>
#include <kevring/runtime/cancel_scope.hpp>
#include <kevring/runtime/detail/intrusive_list.hpp>
#include <kevring/runtime/operation.hpp>
#include <kevring/runtime/result.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/work.hpp>

#include <cerrno>
#include <concepts>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <optional>
#include <stop_token>
#include <system_error>
#include <type_traits>
#include <utility>
#include <variant>

namespace kevring {

class thread_pool;

struct thread_pool_options {
    /// The bound of threads; at least 1. A thread is created when a job finds none that is idle, and
    /// stays until the pool is destroyed.
    std::size_t thread_count_max = 16;
    /// The bound of jobs that wait for a thread. More are refused.
    std::size_t queue_count_max = 4096;
};

/// The work of a pool since it was created, and its state: a copy.
struct thread_pool_counters {
    std::uint64_t thread_count = 0;       // created
    std::uint64_t running_count = 0;      // jobs that run now
    std::uint64_t queued_count = 0;       // jobs that wait for a thread now
    std::uint64_t queued_count_most = 0;  // the most that have waited at a time
    std::uint64_t started_count = 0;
    std::uint64_t canceled_count = 0;  // stopped while they waited
    std::uint64_t refused_count = 0;   // the queue was full
};

namespace detail {

/// One place in the queue of a pool.
struct pool_job : list_link {
    using run_function = void (*)(pool_job&) noexcept;
    explicit pool_job(run_function function) noexcept : run(function) {}
    run_function run;  // on a thread of the pool; the job may be destroyed when it returns
};

}  // namespace detail

/// A bounded number of threads, and the queue of jobs that wait for one: for blocking() and
/// resume_on().
///
/// Errors     The constructor throws std::invalid_argument for no threads.
/// Lifetime   Outlives every await that uses it. The destructor joins the threads.
/// Thread     Any. Not destroyed on one of its own threads.
class thread_pool {
public:
    explicit thread_pool(thread_pool_options options = {});
    thread_pool(const thread_pool&) = delete;
    thread_pool& operator=(const thread_pool&) = delete;
    ~thread_pool();

    /// The pool that blocking() uses by default: with the default options, created at the first use,
    /// never destroyed. A forked process has one of its own.
    static thread_pool& shared();

    /// The counters at this moment, which may be of slightly different moments.
    ///
    /// Thread     Any, without a lock.
    thread_pool_counters counters() const noexcept;
    const thread_pool_options& options() const noexcept { return options_; }

    // For awaitables.

    /// Queues a job, or starts it. 0, or the errno of the refusal: EAGAIN for a full queue or no
    /// thread, EPERM in a process that was forked from the pool's.
    int start(detail::pool_job& job) noexcept;
    /// Takes back a job that waits for a thread. False: it runs, or has run.
    bool withdraw(detail::pool_job& job) noexcept;

private:
    struct shared_state;

    void run_thread() noexcept;

    // Constant after construction.
    const thread_pool_options options_;
    const unsigned fork_generation_;
    shared_state& state_;

    // Written under the mutex of state_, read on any thread.
    detail::shared_counter thread_count_, running_count_, queued_count_, queued_count_most_,
        started_count_, canceled_count_, refused_count_;
};

namespace detail {

/// A place in the queue of a pool, for the coroutine that awaits it.
///
/// Lifetime   In the awaiting frame. The ring waits for a job that runs (ring::expect_post()).
class pool_wait : protected pool_job, protected work, private cancel_hook {
protected:
    pool_wait(thread_pool& pool, pool_job::run_function run, work::run_function resumed) noexcept
        : pool_job(run), work(resumed), cancel_hook(stop_wait), pool_(&pool) {}
    pool_wait(pool_wait&& other) noexcept
        : pool_wait(*other.pool_, other.pool_job::run, other.work::run) {
        KEVRING_ASSERT(!other.waiter_,
                       "blocking() or resume_on() moved after it was awaited; keep it where it was "
                       "awaited");
    }
    ~pool_wait() = default;

    /// False: the await has ended, with failure().
    bool start(std::coroutine_handle<> waiter, cancel_scope* scope) noexcept;
    /// Called on the thread of the pool, as the last: the loop resumes the coroutine.
    void post_end() noexcept { loop_->post_expected(*this); }
    /// Called on the loop: leaves the scope.
    void leave_scope() noexcept { cancel_hook::unlink(); }
    bool failed() const noexcept { return error_ != 0 || cause_ != stop_cause::none; }
    tl::unexpected<std::error_code> failure() const noexcept {
        if (error_ != 0) return error_from(-error_);
        return error_from(cause_ == stop_cause::deadline ? std::errc::timed_out
                                                         : std::errc::operation_canceled);
    }
    ring& loop() const noexcept { return *loop_; }
    std::coroutine_handle<> waiter() const noexcept { return waiter_; }
    /// Where a stop reaches a job that runs; empty for most.
    std::optional<std::stop_source> stop_source_;

private:
    static void stop_wait(cancel_hook& hook, stop_cause cause) noexcept;

    thread_pool* pool_;
    ring* loop_ = nullptr;
    std::coroutine_handle<> waiter_;
    int error_ = 0;
    stop_cause cause_ = stop_cause::none;  // of a stop before the job began
};

template <class T>
struct blocking_result {
    using type = result<T>;
};
template <class T>
struct blocking_result<result<T>> {
    using type = result<T>;
};

template <class Function>
decltype(auto) call_blocking(Function& function, std::optional<std::stop_source>& source) {
    if constexpr (std::invocable<Function&, std::stop_token>) {
        return std::invoke(function, source->get_token());
    } else {
        return std::invoke(function);
    }
}

}  // namespace detail

/// A function that runs on a thread of a pool while the coroutine waits and the loop continues.
///
///     auto hash = [&] { return crypt_password(text); };
///     const auto hashed = co_await blocking(hash);
///     if (!hashed) ...  // not started: hashed.error()
///
/// A function that takes a std::stop_token receives one that is stopped with the scope of the caller.
///
/// Result     result<R> with the value of the function; a function that returns result<R> gives
///            that. An exception of the function is thrown by the await.
/// Errors     The function was not called: operation_canceled and timed_out by the scope around the
///            await, before a thread was free; resource_unavailable_try_again where the queue is full or
///            no thread can be created; operation_not_permitted in a forked process. A function that
///            has started is not interrupted: the await ends when it returns, with its result.
/// Lifetime   `pool` outlives the await. The destructor of the ring waits for a function that runs.
/// Thread     Awaited on a ring's thread; the function is called on another.
/// Fork       A process that the function forks ends when the function returns in it.
template <class Function>
class [[nodiscard]] blocking_operation final : private detail::pool_wait {
    static constexpr bool takes_stop = std::invocable<Function&, std::stop_token>;
    using returned = decltype(detail::call_blocking(
        std::declval<Function&>(), std::declval<std::optional<std::stop_source>&>()));
    static_assert(!std::is_reference_v<returned>,
                  "a blocking function returns a value; return a pointer for a reference");

public:
    using value_type = typename detail::blocking_result<returned>::type;

    blocking_operation(thread_pool& pool, Function function)
        : pool_wait(pool, run_job, resumed), function_(std::move(function)) {
        if constexpr (takes_stop) stop_source_.emplace();
    }
    blocking_operation(blocking_operation&& other) noexcept(
        std::is_nothrow_move_constructible_v<Function>)
        : pool_wait(std::move(other)), function_(std::move(other.function_)) {
        if constexpr (takes_stop) stop_source_ = std::move(other.stop_source_);
    }

    bool await_ready() const noexcept { return false; }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> waiter) noexcept {
        return start(waiter, scope_of(waiter));
    }
    [[nodiscard]] value_type await_resume() {
        if (failed()) return failure();
        if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
        if constexpr (std::is_void_v<returned>) {
            return {};
        } else {
            return std::move(*value_);
        }
    }

private:
    static void run_job(detail::pool_job& job) noexcept {
        auto& self = static_cast<blocking_operation&>(static_cast<pool_wait&>(job));
        try {
            if constexpr (std::is_void_v<returned>) {
                detail::call_blocking(self.function_, self.stop_source_);
            } else {
                self.value_.emplace(detail::call_blocking(self.function_, self.stop_source_));
            }
        } catch (...) {
            self.failure_ = std::current_exception();
        }
        self.post_end();  // last: the frame, and this object in it, may be destroyed
    }
    static void resumed(work& item) noexcept {
        auto& self = static_cast<blocking_operation&>(static_cast<pool_wait&>(item));
        self.leave_scope();
        self.waiter().resume();  // last: the same
    }

    Function function_;
    std::exception_ptr failure_;
    std::optional<std::conditional_t<std::is_void_v<returned>, std::monostate, returned>> value_;
};

/// Calls `function` on a thread of `pool`, or of the shared pool; see blocking_operation.
template <class Function>
    requires(std::invocable<Function&> || std::invocable<Function&, std::stop_token>)
blocking_operation<Function> blocking(thread_pool& pool, Function function) {
    return blocking_operation<Function>(pool, std::move(function));
}
template <class Function>
    requires(std::invocable<Function&> || std::invocable<Function&, std::stop_token>)
blocking_operation<Function> blocking(Function function) {
    return blocking_operation<Function>(thread_pool::shared(), std::move(function));
}

namespace detail {

/// A coroutine on a thread of a pool, from resume_on(pool) to resume_on(loop). It belongs to the loop
/// that the coroutine has left: created and destroyed there, and waited for by its destructor.
class pool_visit final : public pool_job, private work, private cancel_hook {
public:
    pool_visit(thread_pool& pool, cancel_scope& scope, cancel_scope** scope_place,
               std::coroutine_handle<> waiter, stop_cause& cause) noexcept
        : pool_job(run_job),
          work(ended),
          cancel_hook(stop_wait),
          pool_(pool),
          scope_(scope),
          scope_place_(scope_place),
          waiter_(waiter),
          cause_(cause) {}

    /// 0: begun. Otherwise the errno of the refusal, and the visit does not exist any more.
    int begin() noexcept;
    /// The visit of this thread; null on a thread that no coroutine visits.
    static pool_visit*& current() noexcept;
    /// Ends the visit of this thread: the loop of the visit resumes `waiter`.
    static void leave(std::coroutine_handle<> waiter) noexcept;
    ring& loop() const noexcept { return scope_.loop(); }

private:
    static void run_job(pool_job& job) noexcept;
    static void ended(work& item) noexcept;
    static void stop_wait(cancel_hook& hook, stop_cause cause) noexcept;

    thread_pool& pool_;
    cancel_scope& scope_;
    cancel_scope** scope_place_;  // in the promise; null for a foreign promise type
    std::coroutine_handle<> waiter_;
    stop_cause& cause_;  // of a stop before the job began
};

}  // namespace detail

/// Moves the awaiting coroutine to a thread of a pool.
///
///     const auto moved = co_await resume_on(pool);
///     if (!moved) co_return;          // stopped, on the loop
///     compress(block);                // on a thread of the pool
///     co_await resume_on(loop);       // on the loop again
///
/// Between the two awaits the coroutine awaits nothing that needs a loop: only resume_on(loop), and
/// tasks that do not wait. It returns to a loop before it ends. A stop does not reach it in between.
///
/// Result     Success on the thread of the pool.
/// Errors     std::bad_alloc; otherwise as blocking_operation. The coroutine is on its loop then.
/// Lifetime   `pool` outlives the visit. The destructor of the ring waits for the return.
/// Thread     A ring's.
class [[nodiscard]] resume_on_pool {
public:
    explicit resume_on_pool(thread_pool& pool) noexcept : pool_(pool) {}

    bool await_ready() const noexcept { return false; }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> waiter) {
        cancel_scope** scope_place = nullptr;
        if constexpr (requires { waiter.promise().scope = nullptr; })
            scope_place = &waiter.promise().scope;
        return start(waiter, scope_of(waiter), scope_place);
    }
    [[nodiscard]] result<void> await_resume() const noexcept {
        if (error_ != 0) return error_from(-error_);
        if (cause_ == stop_cause::none) return {};
        return error_from(cause_ == stop_cause::deadline ? std::errc::timed_out
                                                         : std::errc::operation_canceled);
    }

private:
    bool start(std::coroutine_handle<> waiter, cancel_scope* scope, cancel_scope** scope_place);

    thread_pool& pool_;
    int error_ = 0;
    stop_cause cause_ = stop_cause::none;  // of a stop before the job began
};

/// Moves the awaiting coroutine from a thread of a pool back to `loop`, into the scope that it had
/// there. Ends at once on the thread of `loop`.
///
/// Thread     Of a pool, after resume_on(pool) on `loop`; or of `loop`.
class [[nodiscard]] resume_on_ring {
public:
    explicit resume_on_ring(ring& loop) noexcept : loop_(loop) {}

    bool await_ready() const noexcept { return loop_.on_ring_thread(); }
    void await_suspend(std::coroutine_handle<> waiter) const noexcept;
    void await_resume() const noexcept {}

private:
    ring& loop_;
};

inline resume_on_pool resume_on(thread_pool& pool) noexcept { return resume_on_pool(pool); }
inline resume_on_ring resume_on(ring& loop) noexcept { return resume_on_ring(loop); }

}  // namespace kevring
