// run.hpp: from main() into a task, on one loop or on one for each core.
#pragma once

#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/ring_options.hpp>
#include <kevring/runtime/task.hpp>
#include <kevring/runtime/task_scope.hpp>

#include <concepts>
#include <cstddef>
#include <exception>
#include <functional>
#include <optional>
#include <type_traits>
#include <utility>

namespace kevring {
namespace detail {

/// Starts a runner from within the loop, where this thread owns the ring.
struct first_work : work {
    first_work(detached_task first_runner, cancel_scope& outer) noexcept
        : work(begin), runner(first_runner), scope(outer) {}
    static void begin(work& self) noexcept {
        auto& first = static_cast<first_work&>(self);
        first.runner.start(first.scope);
    }
    detached_task runner;
    cancel_scope& scope;
};

template <class T>
struct run_state {
    bool done = false;
    std::exception_ptr failure;
    std::optional<std::conditional_t<std::is_void_v<T>, bool, T>> value;
};

template <class T>
detached_task run_main(task<T> main, run_state<T>& outcome) {
    try {
        if constexpr (std::is_void_v<T>) {
            co_await std::move(main);
        } else {
            outcome.value.emplace(co_await std::move(main));
        }
    } catch (...) {
        outcome.failure = std::current_exception();
    }
    {
        const task<T> ended = std::move(main);  // its frame goes before the loop does
    }
    outcome.done = true;
}

void run_threads(unsigned thread_count, const ring_options& options,
                 const std::function<task<void>(unsigned)>& make);

}  // namespace detail

/// Drives `on` until `main` has ended, and gives what it gave or throws what it threw.
///
/// Thread     The one that owns the ring, or the first to drive it.
template <class T>
T run(ring& loop, task<T> main) {
    loop.claim();  // first: what can fail fails before anything refers to this frame
    detail::run_state<T> outcome;
    detail::first_work first(detail::run_main(std::move(main), outcome), loop.root_scope());
    loop.schedule(first);
    loop.run_until(outcome.done);
    if (outcome.failure) std::rethrow_exception(outcome.failure);
    if constexpr (!std::is_void_v<T>) return std::move(*outcome.value);
}

/// Starts `main` in an iteration of `loop`, in its root scope; nothing awaits its end. The loop's
/// destructor stops it. `loop` must be driven, by run(), run_once() or its destructor, or `main`
/// never starts.
///
/// Errors     std::bad_alloc. An exception that leaves `main` ends the program, as one that leaves
/// a
///            std::thread; catch it in `main`. In a process that was forked from the ring's, `main`
///            is destroyed without having started.
/// Lifetime   `loop` is not destroyed before the call has returned.
/// Thread     Any.
void spawn(ring& loop, task<void> main);

/// Makes a ring for this thread and runs `main` on it to its end.
///
/// Errors     Exceptions of `main`; std::system_error where io_uring is unavailable.
template <class T>
T run(task<T> main, const ring_options& options = {}) {
    ring loop(options);
    return run(loop, std::move(main));
}

/// Runs `make(index)` on `thread_count` threads, each with a ring of its own; the calling thread is
/// the one with index 0. All rings are made before the first task begins. The first failure stops the
/// tasks of all threads, and is thrown when all have ended.
///
/// Errors     std::invalid_argument for no threads; those of a ring's constructor, and no task begins;
///            what a task throws.
/// Thread     `make` is called on each of the threads, maybe at the same time.
template <std::invocable<unsigned> Make>
    requires std::same_as<std::invoke_result_t<Make&, unsigned>, task<void>>
void run(unsigned thread_count, Make make, const ring_options& options = {}) {
    detail::run_threads(thread_count, options, std::ref(make));
}

}  // namespace kevring
