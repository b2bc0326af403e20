// readiness_watch.hpp: edges of one descriptor, for any number of tasks, on one loop after another.
#pragma once

#include <kevring/runtime/cancel_scope.hpp>
#include <kevring/runtime/detail/intrusive_list.hpp>
#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/operation.hpp>
#include <kevring/runtime/result.hpp>
#include <kevring/runtime/work.hpp>

#include <coroutine>
#include <memory>

namespace kevring {
class ring;
}

namespace kevring::detail {

/// One multishot poll for POLLIN, on the loop that waits. It stays armed between waits. A loop that
/// ends, ends the request; the next wait, on whatever loop, arms it again.
///
/// A wait may end without an edge that is meant for it: each edge ends all waits. So a task checks
/// its condition first, waits, and checks again.
///
/// Lifetime   The descriptor stays open. Destroyed while no task waits.
/// Thread     The thread of the loop that waits, or, while no request is armed, any.
class readiness_watch {
public:
    explicit readiness_watch(fd_ref file) noexcept : file_(file) {}
    /// Without a descriptor: only wake() ends the waits.
    readiness_watch() noexcept = default;
    readiness_watch(const readiness_watch&) = delete;
    readiness_watch& operator=(const readiness_watch&) = delete;
    ~readiness_watch();

    class [[nodiscard]] wait_operation;
    /// Waits for the next edge; the first wait on a loop ends also if the descriptor is readable.
    ///
    /// Errors     operation_canceled and timed_out, by the scope; device_or_resource_busy: tasks
    ///            wait on another loop, or the other loop belongs to another thread; errors of
    ///            poll_operation.
    wait_operation wait(ring& loop) noexcept;
    /// Ends all waits, as an edge does.
    void wake() noexcept {
        if (waits_.linked()) on_edge(0);
    }
    bool has_waits() const noexcept { return waits_.linked(); }

private:
    class request;

    int start(ring& loop) noexcept;  // 0, or a negative error number
    void on_edge(int error_number) noexcept;

    const fd_ref file_{};
    request* request_ = nullptr;
    list_link waits_;
};

class readiness_watch::wait_operation : private cancel_hook, private work {
public:
    wait_operation(readiness_watch& watch, ring& loop) noexcept
        : wait_operation(watch, loop, nullptr) {}
    wait_operation(const wait_operation&) = delete;
    wait_operation& operator=(const wait_operation&) = delete;

    bool await_ready() const noexcept { return false; }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> waiter) noexcept {
        return start(waiter, scope_of(waiter));
    }
    result<void> await_resume() const noexcept;

protected:
    /// Called on the loop after an edge, in place of the coroutine. True: it called wait_again(), or
    /// something else resumes the coroutine.
    using woken_function = bool (*)(wait_operation& self, std::coroutine_handle<> waiter) noexcept;

    wait_operation(readiness_watch& watch, ring& loop, woken_function woken) noexcept
        : cancel_hook(stopped),
          work(resumed),
          watch_(watch),
          loop_(loop),
          woken_(woken),
          entry_(*this) {}
    bool start(std::coroutine_handle<> waiter, cancel_scope* scope) noexcept;
    void wait_again() noexcept;

private:
    friend class readiness_watch;
    void finish() noexcept;
    static void stopped(cancel_hook& hook, stop_cause cause) noexcept;
    static void resumed(work& item) noexcept;

    struct entry : list_link {  // in the list of waits
        explicit entry(wait_operation& waiting) noexcept : operation(waiting) {}
        wait_operation& operation;
    };

    readiness_watch& watch_;
    ring& loop_;
    const woken_function woken_;
    entry entry_;
    std::coroutine_handle<> waiter_;
    cancel_scope* scope_ = nullptr;
    int error_number_ = 0;
    stop_cause cause_ = stop_cause::none;
    bool finished_ = false;
};

inline readiness_watch::wait_operation readiness_watch::wait(ring& loop) noexcept {
    return {*this, loop};
}

}  // namespace kevring::detail
