// submit.hpp: tasks and functions that one thread gives to the loop of another.
#pragma once

#include <kevring/runtime/assert.hpp>
#include <kevring/runtime/cancel_scope.hpp>
#include <kevring/runtime/detail/remote_task.hpp>
#include <kevring/runtime/operation.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/task.hpp>
#include <kevring/runtime/work.hpp>

#include <concepts>
#include <coroutine>
#include <memory>
#include <type_traits>
#include <utility>

namespace kevring {

/// A task that submit() has started on a loop, which any thread and any loop can await.
///
///     submitted_task<report> pending = submit(other_loop, build_report(input));
///     ...
///     const report built = co_await pending.join();
///
/// Result     Of join() and get(): the value that the task returned; an exception of the task is
///            thrown.
/// Stop       A stop or deadline of the scope around join() is passed on to the task, with its cause;
///            join() returns when the task has ended, with the result of the task. So does
///            request_stop().
/// Lifetime   The destructor requests the stop of a task that was neither joined nor detached, and
///            does not wait. A task that refers to objects of the caller must be joined. `loop` of
///            submit() is not destroyed during a call of this object.
/// Thread     Any; each member from one thread at a time.
/// In flight  One join() or get() per object.
template <class T>
class [[nodiscard("a task that is not joined is stopped; join() or detach() it")]] submitted_task {
public:
    using value_type = T;

    submitted_task(submitted_task&& other) noexcept = default;
    submitted_task& operator=(submitted_task&& other) noexcept {
        if (this != &other) {
            drop();
            state_ = std::move(other.state_);
        }
        return *this;
    }
    ~submitted_task() { drop(); }

    class [[nodiscard]] join_operation final : public detail::remote_join {
    public:
        explicit join_operation(std::shared_ptr<detail::remote_task<T>> state) noexcept
            : remote_join(*state), state_(std::move(state)) {}
        join_operation(join_operation&& other) noexcept = default;
        [[nodiscard]] T await_resume()
            requires(!std::is_void_v<T>)
        {
            return state_->take();
        }
        void await_resume()
            requires std::is_void_v<T>
        {
            state_->take();
        }

    private:
        std::shared_ptr<detail::remote_task<T>> state_;
    };

    /// Waits for the end of the task, without blocking the loop of the caller.
    join_operation join() {
        KEVRING_ASSERT(state_ != nullptr,
                       "submitted_task joined twice, or after detach(); join each one once");
        return join_operation(std::exchange(state_, nullptr));
    }
    /// The same for a thread that drives no loop: blocks it.
    T get() {
        KEVRING_ASSERT(state_ != nullptr,
                       "submitted_task joined twice, or after detach(); join each one once");
        KEVRING_ASSERT(
            state_->ended() || ring::current() == nullptr,
            "submitted_task::get() on a thread that drives a loop, which it would block; "
            "co_await join() there");
        const std::shared_ptr<detail::remote_task<T>> state = std::exchange(state_, nullptr);
        state->wait();
        return state->take();
    }
    /// True once the task has ended: then join() and get() do not wait.
    [[nodiscard]] bool is_ready() const noexcept { return state_ == nullptr || state_->ended(); }
    /// Asks the task to end, as a stop of its scope does. Not after join(), get() or detach().
    void request_stop() noexcept {
        if (state_ != nullptr) state_->request_stop(stop_cause::stopped);
    }
    /// Lets the task continue without anyone who awaits it. Its exception is dropped.
    void detach() noexcept { state_ = nullptr; }

private:
    template <class U>
    friend submitted_task<U> submit(ring& loop, task<U> child);

    explicit submitted_task(std::shared_ptr<detail::remote_task<T>> state) noexcept
        : state_(std::move(state)) {}
    void drop() noexcept {
        if (state_ != nullptr) state_->request_stop(stop_cause::stopped);
    }

    std::shared_ptr<detail::remote_task<T>> state_;
};

/// Starts `child` in an iteration of `loop`, in a scope of its own inside the root scope, and returns
/// the object by which its result is awaited. spawn() is for a task that no one awaits.
///
/// Errors     std::bad_alloc. In a process that was forked from the ring's, the task does not start
///            and join() throws std::system_error with operation_not_permitted.
/// Lifetime   `loop` must be driven, by run(), run_once() or its destructor, or the task never starts. It
///            is not destroyed before the call has returned.
/// Thread     Any.
template <class T>
submitted_task<T> submit(ring& loop, task<T> child) {
    auto state = std::make_shared<detail::remote_task<T>>(loop);
    detail::start_remote(loop, *state, detail::run_remote(state, std::move(child)));
    return submitted_task<T>(std::move(state));
}

/// Calls `function()` in an iteration of `loop`.
///
/// Errors     std::bad_alloc. An exception of `function` ends the program. In a process that was forked
///            from the ring's, `function` is destroyed without a call.
/// Order      Functions of one thread are called in the order of their post().
/// Lifetime   `loop` is not destroyed before the call has returned; its destructor calls functions
///            that are pending.
/// Thread     Any.
template <std::invocable Function>
    requires std::move_constructible<Function>
void post(ring& loop, Function function) {
    struct posted : work {
        explicit posted(Function&& called) : work(call), function(std::move(called)) {}
        static void call(work& item) noexcept {
            const std::unique_ptr<posted> own(static_cast<posted*>(&item));
            static_cast<void>(own->function());
        }
        Function function;
    };
    auto item = std::make_unique<posted>(std::move(function));
    if (loop.created_by_parent_process()) return;
    loop.post(*item.release());
}

}  // namespace kevring
