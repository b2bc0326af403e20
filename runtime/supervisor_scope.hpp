// supervisor_scope.hpp: tasks that run side by side, of which one that fails does not stop the others.
#pragma once

#include <kevring/runtime/cancel_scope.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/semaphore.hpp>
#include <kevring/runtime/task.hpp>
#include <kevring/runtime/task_scope.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

namespace kevring {

/// A task of a supervisor_scope that ended with an exception.
struct task_failure {
    std::string_view task_name;
    std::string_view scope_name;
    std::exception_ptr exception;

    /// what() of the exception, or a text for one that is no std::exception.
    std::string message() const;
};

/// Prints "kevring: task NAME of SCOPE failed: MESSAGE" to standard error.
void print_task_failure(const task_failure& failure) noexcept;

/// Tasks that run side by side on one ring and fail one by one: an exception of a task is reported,
/// and the others continue. For servers: the exception of one client must not end the rest.
///
///     auto accept_all = [&](supervisor_scope& clients) -> task<> {
///         while (true) {
///             auto client = co_await listening.accept();
///             if (!client) co_return;
///             clients.spawn(serve(std::move(*client)), "client");
///         }
///     };
///     co_await in_scope(accept_all);
///
/// An exception that only reports the stop of the scope (operation_canceled, timed_out) is not
/// reported. An exception of the report function counts as one of the scope itself: it stops the
/// tasks, and is thrown by join(). The body of in_scope() belongs to the scope itself as well.
///
/// Lifetime   Must be joined, or never used, before it is destroyed. The names live as long as the
///            tasks; a literal does.
/// Thread     The ring's own.
class supervisor_scope {
public:
    using report_function = std::function<void(const task_failure&)>;

    /// A scope inside `parent`: stopped with it. Without one, inside the ring's root scope.
    explicit supervisor_scope(ring& loop, cancel_scope* parent = nullptr,
                              report_function report = print_task_failure,
                              std::string_view name = "scope")
        : tasks_(loop, parent, name), report_(std::move(report)) {}

    /// Starts `child` now; it runs until it first waits, then beside the caller.
    void spawn(task<void> child, std::string_view name = "task") {
        tasks_.spawn(run(std::move(child), name));
    }
    /// As task_scope::for_each_named(); tasks without a name of their own are shown as "task".
    template <class Function>
    void for_each_named(Function function) const {
        tasks_.for_each_named(std::move(function));
    }

    void request_stop() noexcept { tasks_.request_stop(); }
    bool stop_requested() const noexcept { return tasks_.stop_requested(); }
    std::size_t active_count() const noexcept { return tasks_.active_count(); }
    /// Tasks that have ended with an exception of their own.
    std::uint64_t failure_count() const noexcept { return failure_count_; }
    std::string_view name() const noexcept { return tasks_.name(); }
    cancel_scope& scope() noexcept { return tasks_.scope(); }
    /// Stops the tasks; join() throws `failure`.
    void fail(std::exception_ptr failure) noexcept { tasks_.fail(std::move(failure)); }
    /// Waits until every task has ended.
    task_scope::join_awaiter join() noexcept { return tasks_.join(); }

private:
    task<void> run(task<void> child, std::string_view name);

    task_scope tasks_;
    report_function report_;
    std::uint64_t failure_count_ = 0;
};

/// in_scope() with a supervisor_scope: runs `body(scope)`, and waits until it and its tasks have
/// ended. An exception of the body stops the tasks and is thrown.
template <class Body>
    requires(std::invocable<Body&, supervisor_scope&> && !std::invocable<Body&, task_scope&>)
task<void> in_scope(Body& body) {
    supervisor_scope::report_function report = print_task_failure;
    co_await in_scope(body, report);
}
/// The same, with a function that receives the failures. It is named, as the body is.
template <class Body, class Report>
    requires(std::invocable<Body&, supervisor_scope&> && std::invocable<Report&, task_failure>)
task<void> in_scope(Body& body, Report& report, std::string_view name = "scope") {
    cancel_scope& outer = co_await current_scope();
    supervisor_scope tasks(outer.loop(), &outer, std::ref(report), name);
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

/// A task_scope with at most `task_count_max` tasks at a time.
///
///     limited_task_scope downloads(ring, 8);
///     for (const std::string& url : urls) {
///         const auto spawned = co_await downloads.spawn(fetch(url));
///         if (!spawned) break;  // stopped while it waited for a place
///     }
///     co_await downloads.join();
///
/// Errors     Of spawn(): operation_canceled and timed_out by the scope around it; the task has not
///            been started then.
/// Order      First come, first served.
/// Otherwise as task_scope.
class limited_task_scope {
public:
    limited_task_scope(ring& loop, std::size_t task_count_max,
                       cancel_scope* parent = nullptr) noexcept
        : places_(task_count_max), tasks_(loop, parent) {}

    /// Waits for a free place, then starts `child`.
    task<result<void>> spawn(task<void> child) {
        const result<void> place = co_await places_.acquire();
        if (!place) co_return place;
        try {
            tasks_.spawn(run(std::move(child)));
        } catch (...) {  // no memory
            places_.release();
            throw;
        }
        co_return result<void>();
    }
    /// Starts `child` if a place is free. False: none is, and `child` is kept.
    [[nodiscard]] bool try_spawn(task<void>& child) {
        if (!places_.try_acquire()) return false;
        tasks_.spawn(run(std::move(child)));
        return true;
    }

    void request_stop() noexcept { tasks_.request_stop(); }
    std::size_t active_count() const noexcept { return tasks_.active_count(); }
    std::size_t free_count() noexcept { return places_.available(); }
    cancel_scope& scope() noexcept { return tasks_.scope(); }
    task_scope::join_awaiter join() noexcept { return tasks_.join(); }

private:
    task<void> run(task<void> child) {
        struct place {
            explicit place(semaphore& free_places) noexcept : places(free_places) {}
            place(const place&) = delete;
            place& operator=(const place&) = delete;
            ~place() { places.release(); }
            semaphore& places;
        };
        const place held(places_);
        co_await std::move(child);
    }

    semaphore places_;
    task_scope tasks_;
};

}  // namespace kevring
