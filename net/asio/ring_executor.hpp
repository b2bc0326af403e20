// ring_executor.hpp: a ring as an executor of Asio's, and a ring inside of an io_context.
//
// Includes Asio, which kevring.hpp does not do for these headers: a program includes them by name.
#pragma once

#include <kevring/runtime/assert.hpp>
#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/ring_service.hpp>
#include <kevring/runtime/submit.hpp>

#include <asio/any_io_executor.hpp>
#include <asio/error.hpp>
#include <asio/execution.hpp>
#include <asio/execution_context.hpp>
#include <asio/io_context.hpp>
#include <asio/posix/stream_descriptor.hpp>
#include <asio/steady_timer.hpp>

#include <chrono>
#include <memory>
#include <system_error>
#include <type_traits>
#include <utility>

#include <fcntl.h>
#include <unistd.h>

namespace kevring {

/// An error as Asio reports it: `to_asio(std::errc::operation_canceled) == asio::error::operation_aborted`.
inline asio::error_code to_asio(const std::error_code& error) noexcept {
    const bool is_errno =
        error.category() == std::generic_category() || error.category() == std::system_category();
    return is_errno ? asio::error_code(error.value(), asio::error::get_system_category()) : error;
}

/// The services of Asio that objects on a ring use: timers, sockets and resolvers of Asio whose
/// executor is a ring_executor. Asio waits for them on a thread of its own, and calls their handlers on
/// the ring.
class ring_asio_context final : public ring_service, public asio::execution_context {
public:
    explicit ring_asio_context(ring& loop) noexcept : loop_(loop) {}
    ~ring_asio_context() override {
        shutdown();
        destroy();
    }
    ring& loop() const noexcept { return loop_; }

private:
    ring& loop_;
};

/// An executor in the sense of Asio: functions and handlers run on a ring.
///
///     asio::post(executor_of(loop), [] { ... });
///     asio::steady_timer timer(executor_of(loop), 1s);   // its handlers run on the ring
///     asio::co_spawn(executor_of(loop), session(), asio::detached);
///
/// Properties  blocking.possibly (the default: a function runs at once on the ring's thread) and
///             blocking.never; context.
/// Errors      execute() throws std::bad_alloc. An exception of a function ends the program.
/// Lifetime    The ring outlives every object that has a copy, and every operation of Asio that was
///             started with one.
/// Thread      Any, except executor_of().
class ring_executor {
public:
    ring& loop() const noexcept { return context_->loop(); }

    asio::execution_context& query(asio::execution::context_t) const noexcept { return *context_; }
    static constexpr asio::execution::mapping_t query(asio::execution::mapping_t) noexcept {
        return asio::execution::mapping.thread;
    }
    constexpr asio::execution::blocking_t query(asio::execution::blocking_t) const noexcept {
        return never_blocks_ ? asio::execution::blocking_t(asio::execution::blocking.never)
                             : asio::execution::blocking_t(asio::execution::blocking.possibly);
    }
    ring_executor require(asio::execution::blocking_t::never_t) const noexcept {
        return ring_executor(*context_, true);
    }
    ring_executor require(asio::execution::blocking_t::possibly_t) const noexcept {
        return ring_executor(*context_, false);
    }

    template <class Function>
    void execute(Function&& function) const {
        if (!never_blocks_ && loop().on_ring_thread() && ring::current() == &loop()) {
            std::decay_t<Function> called(std::forward<Function>(function));
            std::move(called)();
            return;
        }
        struct caller {
            std::decay_t<Function> function;
            void operator()() { std::move(function)(); }
        };
        post(loop(), caller{std::forward<Function>(function)});
    }

    friend bool operator==(const ring_executor& left, const ring_executor& right) noexcept {
        return left.context_ == right.context_ && left.never_blocks_ == right.never_blocks_;
    }
    friend bool operator!=(const ring_executor& left, const ring_executor& right) noexcept {
        return !(left == right);
    }

private:
    friend ring_executor executor_of(ring& loop);
    explicit ring_executor(ring_asio_context& context, bool never_blocks) noexcept
        : context_(&context), never_blocks_(never_blocks) {}

    ring_asio_context* context_;
    bool never_blocks_;
};

/// The executor of a ring.
///
/// Errors     std::bad_alloc.
/// Thread     The ring's, or any before the ring is driven. Copies may be used on any thread.
inline ring_executor executor_of(ring& loop) {
    return ring_executor(loop.service<ring_asio_context>(), false);
}

/// Drives a ring on the thread of an io_context: the coroutines of the ring and the handlers of the
/// io_context take turns on one thread, without locks.
///
///     asio::io_context context(1);
///     ring loop;
///     ring_in_io_context driven(context, loop);
///     spawn(loop, serve(...));
///     context.run();
///
/// The io_context has work as long as this object lives and stop() was not called.
///
/// Errors     The constructor throws those of ring::native_handle(), and those of asio.
/// Lifetime   Destroyed before the io_context and the ring, on their thread.
/// Thread     That of the io_context, which one thread runs.
class ring_in_io_context {
public:
    ring_in_io_context(asio::io_context& context, ring& loop)
        : state_(std::make_shared<state>(context, loop)) {
        state::wait(state_);
    }
    ring_in_io_context(const ring_in_io_context&) = delete;
    ring_in_io_context& operator=(const ring_in_io_context&) = delete;
    ~ring_in_io_context() { stop(); }

    /// Ends the driving, so that io_context::run() can return.
    void stop() noexcept {
        state_->stopped = true;
        try {
            state_->readable.cancel();
            state_->timer.cancel();
        } catch (const std::system_error&) {
            // The waits end when the io_context is destroyed.
        }
    }

private:
    struct state {
        state(asio::io_context& context, ring& driven)
            : loop(driven), readable(context), timer(context) {
            fd copy(copy_of(driven));
            readable.assign(copy.number());  // if it throws, the number is not its own
            static_cast<void>(copy.release());
        }

        static int copy_of(ring& driven) {
            const int copy = ::fcntl(driven.native_handle(), F_DUPFD_CLOEXEC, 3);
            if (copy < 0)
                throw std::system_error(errno, std::system_category(),
                                        "kevring: a descriptor for an io_context");
            return copy;
        }

        // Both waits may end at about the same time: an iteration too many does no harm.
        static void wait(const std::shared_ptr<state>& self) {
            self->wait_for_events(self);
            self->wait_for_timer(self);
        }
        void wait_for_events(const std::shared_ptr<state>& self) {
            readable.async_wait(asio::posix::stream_descriptor::wait_read,
                                [self](const asio::error_code& error) {
                                    if (error || self->stopped) return;
                                    self->run_once(self);
                                    if (!self->stopped) self->wait_for_events(self);
                                });
        }
        void run_once(const std::shared_ptr<state>& self) {
            loop.run_once(false);
            if (!stopped) wait_for_timer(self);
        }
        // Replaces the wait for an earlier deadline.
        void wait_for_timer(const std::shared_ptr<state>& self) {
            const int timeout_ms = loop.poll_timeout_ms();
            if (timeout_ms < 0) {
                timer.cancel();
                return;
            }
            timer.expires_after(std::chrono::milliseconds(timeout_ms));
            timer.async_wait([self](const asio::error_code& error) {
                if (!error && !self->stopped) self->run_once(self);
            });
        }

        ring& loop;
        asio::posix::stream_descriptor readable;
        asio::steady_timer timer;
        bool stopped = false;
    };

    std::shared_ptr<state> state_;
};

}  // namespace kevring
