// send_budget.hpp: the byte budget of a loop iteration, shared by all transfers of the loop.
#pragma once

#include <kevring/runtime/ring.hpp>

#include <coroutine>

namespace kevring {

/// Waits for a loop iteration with budget left. Together, the transfers of a loop send about 2 MiB
/// per iteration; then other tasks run.
///
///     while (!send_budget::available(loop)) {
///         send_budget budget(loop);
///         co_await budget;
///     }
///     const send_report report = try_send_file(loop, client.native(), file, range, options);
///
/// send_file() waits in the same FIFO queue. A caller that repeats try_send_file() needs this.
///
/// Lifetime   Does not move until the await completes; the ring outlives it. The await completes
///            after the iterations that earlier waiters need, and no stop ends it earlier.
/// Thread     The loop's thread.
/// Errors     The constructor throws std::bad_alloc.
class [[nodiscard]] send_budget {
public:
    /// True if a transfer may send bytes now: no other waits, and this iteration has budget left.
    /// True after an await.
    static bool available(ring& loop) noexcept;

    explicit send_budget(ring& loop);
    send_budget(const send_budget&) = delete;
    send_budget& operator=(const send_budget&) = delete;

    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> waiter) noexcept;
    void await_resume() const noexcept {}

private:
    friend class send_scheduler;
    class send_scheduler& scheduler_;
    std::coroutine_handle<> waiter_;
    send_budget* next_ = nullptr;
};

}  // namespace kevring
