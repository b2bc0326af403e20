// io_context_in_ring.hpp: an io_context whose handlers run on the thread of a ring.
#pragma once

#include <kevring/runtime/clock.hpp>
#include <kevring/runtime/deadline.hpp>
#include <kevring/runtime/reset_event.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/run.hpp>
#include <kevring/runtime/sleep.hpp>
#include <kevring/runtime/task.hpp>

#include <asio/executor_work_guard.hpp>
#include <asio/io_context.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <memory>
#include <system_error>

namespace kevring {

/// Runs the handlers of an io_context on the thread of a ring, between its coroutines, without locks: for a
/// library that needs an io_context, in a program whose loop is a ring.
///
///     asio::io_context context(1);
///     io_context_in_ring driven(loop, context);
///     some_asio_library library(context);
///
/// An io_context has no descriptor that tells when it has work, so the ring asks it: at once after a handler
/// and after wake(), then after pauses that grow to `pause_max`. An idle io_context costs an
/// epoll_wait(2) for each pause, and its events can be late by one pause. Objects that can have another
/// executor need no io_context: with executor_of(loop) their handlers come without a pause.
///
/// The io_context has work as long as this object lives and stop() was not called. io_context::stop() ends
/// the driving as well; an io_context that has stopped needs a restart() before it is driven again.
///
/// Errors     The constructor throws std::bad_alloc. An exception of a handler ends the program.
/// Lifetime   Destroyed before the io_context, on the thread of the ring; it may outlive the ring.
/// Thread     The ring's, or any before the ring is driven; wake() any.
class io_context_in_ring {
public:
    io_context_in_ring(ring& loop, asio::io_context& context,
                       clamped_duration pause_max = std::chrono::milliseconds(1))
        : state_(std::make_shared<state>(context, pause_max)) {
        spawn(loop, drive(state_));
    }
    io_context_in_ring(const io_context_in_ring&) = delete;
    io_context_in_ring& operator=(const io_context_in_ring&) = delete;
    ~io_context_in_ring() { stop(); }

    /// The ring asks the io_context without a pause: after an asio::post() to it from another thread, where
    /// a pause would matter.
    void wake() noexcept { state_->woken.set(); }
    /// Ends the driving. No handler runs afterwards, except the one that calls this.
    void stop() noexcept {
        if (state_->stopped) return;
        state_->stopped = true;
        state_->guard.reset();
        state_->woken.set();
    }

private:
    struct state {
        state(asio::io_context& driven, nanoseconds longest)
            : context(driven),
              pause_max(std::max(longest, pause_min)),
              guard(driven.get_executor()) {}

        static constexpr nanoseconds pause_min = std::chrono::microseconds(20);

        asio::io_context& context;  // not used after stop()
        const nanoseconds pause_max;
        asio::executor_work_guard<asio::io_context::executor_type> guard;
        cross_loop::auto_reset_event woken;
        bool stopped = false;
    };

    static task<void> drive(std::shared_ptr<state> self) {
        // Handlers that make others for ever do not hold up the coroutines of the ring.
        constexpr std::size_t handler_count_max = 64;
        nanoseconds pause = state::pause_min;
        while (!self->stopped) {
            std::size_t count = 0;
            while (count < handler_count_max && !self->stopped && self->context.poll_one() != 0)
                ++count;
            if (self->stopped || self->context.stopped()) co_return;
            pause = count != 0 ? state::pause_min : std::min(2 * pause, self->pause_max);
            if (count == handler_count_max) pause = nanoseconds::zero();
            const auto woken = co_await with_timeout(self->woken.wait(), pause);
            if (woken)
                pause = state::pause_min;
            else if (woken.error() == std::errc::operation_canceled)
                co_return;  // the ring ends
        }
    }

    std::shared_ptr<state> state_;
};

}  // namespace kevring
