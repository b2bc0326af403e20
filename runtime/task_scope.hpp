// task_scope.hpp: tasks that run side by side, and a block that does not end before they do.
#pragma once

#include <kevring/runtime/assert.hpp>
#include <kevring/runtime/cancel_scope.hpp>
#include <kevring/runtime/detail/frame_pool.hpp>
#include <kevring/runtime/detail/intrusive_list.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/task.hpp>

#include <coroutine>
#include <cstddef>
#include <exception>
#include <string_view>
#include <system_error>
#include <utility>

namespace kevring {
namespace detail {

/// The error that an await reports after a stop for `cause`.
constexpr std::errc errc_of(stop_cause cause) noexcept {
    return cause == stop_cause::deadline ? std::errc::timed_out : std::errc::operation_canceled;
}

/// Whether an exception only reports a stop for `cause`: a std::system_error, or the exception of
/// result<T>::value(), with the error of that cause. False where `cause` is none.
bool is_stop(const std::exception_ptr& failure, stop_cause cause) noexcept;

/// A coroutine that runs a task for someone who counts rather than awaits; its frame goes by
/// itself.
struct detached_task {
    struct promise_type {
        static void* operator new(std::size_t bytes) { return allocate_frame(bytes); }
        static void operator delete(void* frame, std::size_t bytes) noexcept {
            free_frame(frame, bytes);
        }
        detached_task get_return_object() noexcept {
            return {std::coroutine_handle<promise_type>::from_promise(*this)};
        }
        std::suspend_always initial_suspend() const noexcept { return {}; }
        std::suspend_never final_suspend() const noexcept { return {}; }
        void return_void() const noexcept {}
        void unhandled_exception() const noexcept { std::terminate(); }  // the body catches all
        cancel_scope* scope = nullptr;
    };

    void start(cancel_scope& scope) const noexcept {
        frame.promise().scope = &scope;
        resume_bounded(&scope, frame);
    }

    std::coroutine_handle<promise_type> frame;
};

}  // namespace detail

/// Tasks that run side by side on one ring. The scope is joined before it goes; the first failure
/// stops the others and is thrown by join().
///
///     task_scope clients(ring);
///     clients.spawn(serve(std::move(socket)));
///     co_await clients.join();
///
/// Prefer in_scope(), which cannot forget the join, also when the block throws.
///
/// Lifetime   Must be joined, or never used, before it is destroyed: tasks refer to what lives
///            around the scope.
/// Thread     The ring's own.
class task_scope {
public:
    /// A scope inside `parent`: stopped with it. Without one, inside the ring's root scope. `name`
    /// is for reports, and lives as long as the scope; a literal does.
    explicit task_scope(ring& loop, cancel_scope* parent = nullptr,
                        std::string_view name = "scope") noexcept
        : scope_(loop, parent != nullptr ? parent : &loop.root_scope()), name_(name) {}
    ~task_scope() {
        KEVRING_ASSERT(
            active_count_ == 0 || scope_.loop().created_by_parent_process(),
            "task_scope destroyed while its tasks run; await join() first, or use in_scope()");
    }

    /// Starts `child` now; it runs until it first waits, then beside the caller. In a chain of
    /// tasks that spawn each other the loop starts `child` in its next iteration where the stack
    /// would become too deep.
    void spawn(task<void> child) {
        const detail::detached_task child_task = run_child(*this, std::move(child));
        ++active_count_;  // not before: there may be no memory for the frame
        child_task.start(scope_);
    }

    /// The same for a task that for_each_named() shows. `name` lives as long as the task.
    void spawn(task<void> child, std::string_view name) {
        spawn(run_named(named_, std::move(child), name));
    }

    /// Calls `function(name)` for each running task that has a name, in the order of their start.
    template <class Function>
    void for_each_named(Function function) const {
        for (const detail::list_link* link = named_.next; link != &named_; link = link->next)
            function(static_cast<const named_task&>(*link).name);
    }
    std::string_view name() const noexcept { return name_; }

    /// Counts as a failure of one of the tasks: stops the others, and is thrown by join() if it is
    /// the first. An exception that only reports the stop of this scope does not count as long as
    /// there is another.
    void fail(std::exception_ptr failure) noexcept {
        const stop_cause cause = scope_.cause();
        if (!failure_ || (detail::is_stop(failure_, cause) && !detail::is_stop(failure, cause)))
            failure_ = std::move(failure);
        request_stop();
    }

    /// Asks every task to end; those that are spawned later end at their first await.
    void request_stop() noexcept { scope_.request_stop(); }
    bool stop_requested() const noexcept { return scope_.stop_requested(); }
    std::size_t active_count() const noexcept { return active_count_; }
    cancel_scope& scope() noexcept { return scope_; }

    class [[nodiscard]] join_awaiter {
    public:
        explicit join_awaiter(task_scope& scope) noexcept : scope_(scope) {}
        bool await_ready() const noexcept { return scope_.active_count_ == 0; }
        template <class Promise>
        void await_suspend(std::coroutine_handle<Promise> waiter) noexcept {
            KEVRING_ASSERT(!scope_.joiner_,
                           "task_scope joined twice at once; let one task await join()");
            scope_.joiner_ = waiter;
        }
        void await_resume() {
            if (scope_.failure_) std::rethrow_exception(std::exchange(scope_.failure_, nullptr));
        }

    private:
        task_scope& scope_;
    };

    /// Waits until every task has ended, then throws the first failure, if there was one.
    /// A stop of the joiner's scope reaches the tasks only where that scope is above theirs.
    [[nodiscard]] join_awaiter join() noexcept { return join_awaiter(*this); }

private:
    friend class supervisor_scope;

    struct named_task : detail::list_link {
        named_task(detail::list_link& tasks, std::string_view task_name) noexcept
            : name(task_name) {
            insert_before(tasks);
        }
        ~named_task() { unlink(); }
        std::string_view name;
    };
    static task<void> run_named(detail::list_link& tasks, task<void> child, std::string_view name) {
        const named_task entry(tasks, name);
        co_await std::move(child);
    }
    static detail::detached_task run_child(task_scope& scope, task<void> child) {
        try {
            co_await std::move(child);
        } catch (...) {
            scope.fail(std::current_exception());
        }
        {
            // The task's frame is destroyed before its end is reported.
            const task<void> ended = std::move(child);
        }
        if (--scope.active_count_ == 0 && scope.joiner_)  // last: the joiner may destroy the scope
            detail::resume_bounded(&scope.scope_, std::exchange(scope.joiner_, {}));
    }

    cancel_scope scope_;
    std::string_view name_;
    detail::list_link named_;  // tasks that were spawned with a name
    std::size_t active_count_ = 0;
    std::coroutine_handle<> joiner_;
    std::exception_ptr failure_;
};

/// The scope that the awaiting coroutine runs in.
class [[nodiscard]] current_scope {
public:
    [[nodiscard]] current_scope() noexcept {}
    bool await_ready() const noexcept { return false; }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> self) noexcept {
        scope_ = scope_of(self);
        return false;
    }
    [[nodiscard]] cancel_scope& await_resume() const noexcept {
        KEVRING_ASSERT(scope_ != nullptr,
                       "current_scope() awaited by a coroutine that runs on no ring; start it by "
                       "run() or spawn()");
        return *scope_;
    }

private:
    cancel_scope* scope_ = nullptr;
};

namespace detail {

/// Moves the awaiting coroutine into another scope, for as long as the guard lives that it gives.
class [[nodiscard]] enter_scope {
public:
    class [[nodiscard]] guard {
    public:
        guard(cancel_scope*& slot, cancel_scope& inner) noexcept
            : slot_(slot), outer_(std::exchange(slot, &inner)) {}
        guard(const guard&) = delete;
        guard& operator=(const guard&) = delete;
        ~guard() { slot_ = outer_; }

    private:
        cancel_scope*& slot_;
        cancel_scope* outer_;
    };

    explicit enter_scope(cancel_scope& inner) noexcept : inner_(inner) {}
    bool await_ready() const noexcept { return false; }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> self) noexcept {
        slot_ = &self.promise().scope;
        return false;
    }
    [[nodiscard]] guard await_resume() const noexcept { return guard(*slot_, inner_); }

private:
    cancel_scope& inner_;
    cancel_scope** slot_ = nullptr;
};

}  // namespace detail

/// Runs `body(scope)` and waits until it and every task that it spawned have ended. The body is one
/// of the tasks: the first failure of any of them stops all and is thrown.
///
///     auto body = [&](task_scope& clients) -> task<> { ... };
///     co_await in_scope(body);
///
/// `body` is named and passed by reference on purpose: g++ 12 destroys a capturing lambda twice
/// when it is a temporary in a co_await expression.
template <class Body>
task<void> in_scope(Body& body) {
    cancel_scope& outer = co_await current_scope();
    task_scope tasks(outer.loop(), &outer);
    {
        const auto inside = co_await detail::enter_scope(tasks.scope());
        try {
            co_await body(tasks);
        } catch (...) {
            tasks.fail(std::current_exception());
        }
    }
    co_await tasks.join();
}

}  // namespace kevring
