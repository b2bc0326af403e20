// from_asio.hpp: operations and coroutines of Asio that a coroutine of this library awaits.
#pragma once

#include <kevring/runtime/assert.hpp>
#include <kevring/runtime/cancel_scope.hpp>
#include <kevring/runtime/operation.hpp>
#include <kevring/runtime/result.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/work.hpp>

#include <asio/async_result.hpp>
#include <asio/cancellation_signal.hpp>
#include <asio/error.hpp>
#include <asio/post.hpp>

#include <coroutine>
#include <exception>
#include <functional>
#include <optional>
#include <system_error>
#include <tuple>
#include <type_traits>
#include <utility>

namespace kevring {

/// A completion token of Asio: the operation is an awaitable of this library.
///
///     const result<std::size_t> received = co_await peer.async_read_some(asio::buffer(block), use_kevring);
///
/// The operation starts when it is awaited. See from_asio() for results, stops and threads.
struct use_kevring_t {};
inline constexpr use_kevring_t use_kevring{};

namespace detail {

/// The result of an await for the arguments of a completion handler.
template <class... Arguments>
struct asio_await_result {
    using stored = std::tuple<std::decay_t<Arguments>...>;
    using type =
        std::conditional_t<sizeof...(Arguments) == 1,
                           std::tuple_element_t<0, std::tuple<std::decay_t<Arguments>..., void>>,
                           stored>;
    static type take(std::optional<stored>&& arguments) {
        if (!arguments) throw std::system_error(asio::error::operation_aborted);
        if constexpr (sizeof...(Arguments) == 1) {
            return std::get<0>(std::move(*arguments));
        } else {
            return std::move(*arguments);
        }
    }
};
template <>
struct asio_await_result<> {
    using stored = std::tuple<>;
    using type = void;
    static void take(std::optional<stored>&& arguments) {
        if (!arguments) throw std::system_error(asio::error::operation_aborted);
    }
};
inline std::error_code from_asio_error(const asio::error_code& error) noexcept {
    return error.category() == asio::error::get_system_category()
               ? std::error_code(error.value(), std::generic_category())
               : std::error_code(error);
}
template <>
struct asio_await_result<asio::error_code> {
    using stored = std::tuple<asio::error_code>;
    using type = result<void>;
    static type take(std::optional<stored>&& arguments) {
        const asio::error_code error =
            arguments ? std::get<0>(*arguments) : asio::error_code(asio::error::operation_aborted);
        if (error) return tl::unexpected<std::error_code>(from_asio_error(error));
        return {};
    }
};
template <class T>
struct asio_await_result<asio::error_code, T> {
    using stored = std::tuple<asio::error_code, std::decay_t<T>>;
    using type = result<std::decay_t<T>>;
    static type take(std::optional<stored>&& arguments) {
        const asio::error_code error =
            arguments ? std::get<0>(*arguments) : asio::error_code(asio::error::operation_aborted);
        if (error) return tl::unexpected<std::error_code>(from_asio_error(error));
        return std::get<1>(std::move(*arguments));
    }
};
template <>
struct asio_await_result<std::exception_ptr> {
    using stored = std::tuple<std::exception_ptr>;
    using type = void;
    static void take(std::optional<stored>&& arguments) {
        if (!arguments) throw std::system_error(asio::error::operation_aborted);
        if (std::get<0>(*arguments)) std::rethrow_exception(std::get<0>(*arguments));
    }
};
template <class T>
struct asio_await_result<std::exception_ptr, T> {
    using stored = std::tuple<std::exception_ptr, std::decay_t<T>>;
    using type = std::decay_t<T>;
    static type take(std::optional<stored>&& arguments) {
        if (!arguments) throw std::system_error(asio::error::operation_aborted);
        if (std::get<0>(*arguments)) std::rethrow_exception(std::get<0>(*arguments));
        return std::get<1>(std::move(*arguments));
    }
};

/// The wait for a handler of Asio's: the part that does not depend on the operation.
class asio_wait : protected work, protected cancel_hook {
public:
    bool await_ready() const noexcept { return false; }

protected:
    asio_wait() noexcept : work(resumed), cancel_hook(stopped) {}
    asio_wait(asio_wait&& other) noexcept : asio_wait() {
        KEVRING_ASSERT(
            !other.waiter_,
            "operation of Asio moved after it was awaited; keep it where it was awaited");
    }
    ~asio_wait() = default;

    /// False: the scope was stopped, and the operation does not start.
    bool begin(std::coroutine_handle<> waiter, cancel_scope* scope) noexcept {
        ring* const loop = scope != nullptr ? &scope->loop() : ring::current();
        KEVRING_ASSERT(
            loop != nullptr && loop->on_ring_thread(),
            "operation of Asio awaited on a thread that does not drive its ring; await it "
            "in a task that run() or spawn() started");
        if (scope == nullptr) scope = &loop->root_scope();
        if (scope->stop_requested()) {
            cause_ = scope->cause();
            return false;
        }
        loop_ = loop;
        waiter_ = waiter;
        loop->expect_post();
        scope->add(*this);
        return true;
    }
    stop_cause cause() const noexcept { return cause_; }
    void finish() noexcept { loop_->post_expected(*this); }
    asio::cancellation_slot slot() noexcept { return signal_.slot(); }

private:
    static void resumed(work& item) noexcept {
        auto& self = static_cast<asio_wait&>(item);
        self.cancel_hook::unlink();
        self.waiter_.resume();  // last: the frame, and this object in it, may be destroyed
    }
    static void stopped(cancel_hook& hook, stop_cause cause) noexcept {
        auto& self = static_cast<asio_wait&>(hook);
        if (self.cause_ != stop_cause::none) return;
        self.cause_ = cause;
        self.signal_.emit(asio::cancellation_type::all);
    }

    ring* loop_ = nullptr;
    std::coroutine_handle<> waiter_;
    stop_cause cause_ = stop_cause::none;
    asio::cancellation_signal signal_;
};

template <class Signature, class Initiation, class... Inputs>
class asio_operation;

template <class... Arguments, class Initiation, class... Inputs>
class [[nodiscard]] asio_operation<void(Arguments...), Initiation, Inputs...> final
    : private asio_wait {
    using outcome = asio_await_result<std::decay_t<Arguments>...>;

    /// Called once, or destroyed without a call when its io_context is.
    class handler {
    public:
        handler(asio_operation& operation, asio::cancellation_slot slot) noexcept
            : operation_(&operation), slot_(slot) {}
        handler(handler&& other) noexcept
            : operation_(std::exchange(other.operation_, nullptr)), slot_(other.slot_) {}
        handler& operator=(handler&&) = delete;
        ~handler() {
            if (operation_ != nullptr) operation_->finish();
        }
        template <class... Values>
        void operator()(Values&&... values) {
            asio_operation& operation = *std::exchange(operation_, nullptr);
            try {
                operation.arguments_.emplace(std::forward<Values>(values)...);
            } catch (...) {
                operation.failure_ = std::current_exception();
            }
            operation.finish();  // last: the awaiting frame may be destroyed
        }
        using cancellation_slot_type = asio::cancellation_slot;
        cancellation_slot_type get_cancellation_slot() const noexcept { return slot_; }

    private:
        asio_operation* operation_;
        asio::cancellation_slot slot_;
    };

public:
    using value_type = typename outcome::type;

    explicit asio_operation(Initiation&& initiation, Inputs&&... inputs)
        : initiation_(std::move(initiation)), inputs_(std::move(inputs)...) {}
    asio_operation(asio_operation&& other) noexcept = default;

    using asio_wait::await_ready;
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> waiter) {
        if (!begin(waiter, scope_of(waiter))) return false;
        try {
            handler completion(*this, slot());
            std::apply(
                [&](Inputs&... inputs) {
                    std::move(initiation_)(std::move(completion), std::move(inputs)...);
                },
                inputs_);
        } catch (...) {
            // The destructor of the handler has posted the end of the wait.
            failure_ = std::current_exception();
        }
        return true;
    }
    value_type await_resume() {
        if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
        if constexpr (requires(value_type value) { value.error(); }) {
            if (cause() != stop_cause::none) {
                value_type value = outcome::take(std::move(arguments_));
                // The reason of the stop, as every await of this library reports it.
                if (!value && value.error() == std::errc::operation_canceled)
                    return error_from(cause() == stop_cause::deadline
                                          ? std::errc::timed_out
                                          : std::errc::operation_canceled);
                return value;
            }
        }
        return outcome::take(std::move(arguments_));
    }

private:
    Initiation initiation_;
    std::tuple<Inputs...> inputs_;
    std::optional<typename outcome::stored> arguments_;
    std::exception_ptr failure_;
};

}  // namespace detail

/// Awaits an operation of Asio, given as a function that starts it with a completion token.
///
///     const auto resolved = co_await from_asio([&](auto token) {
///         return resolver.async_resolve("localhost", "80", token);
///     });
///
/// With g++ 12, name the function first: see docs/gcc-12.md. asio::co_spawn(executor, coroutine(), token)
/// awaits a coroutine of Asio.
///
/// Result      result<T> for the signature void(error_code, T), result<void> for void(error_code),
///             T for void(exception_ptr, T), a tuple for other arguments.
/// Errors      The error of the operation, with conditions of std::errc. operation_canceled and timed_out
///             by the scope around the await, which emits the cancellation signal of the operation, and
///             waits for its handler; operation_canceled where the io_context is destroyed first. A
///             signature without an error_code throws these as std::system_error.
/// Lifetime    The destructor of the ring waits for the handler.
/// Thread      The ring's. The object of Asio is used by this thread, or its operation need not be
///             cancelled: asio::cancellation_signal is not safe across threads.
template <class Function>
auto from_asio(Function&& function) -> decltype(std::forward<Function>(function)(use_kevring)) {
    return std::forward<Function>(function)(use_kevring);
}

}  // namespace kevring

template <class... Arguments>
class asio::async_result<kevring::use_kevring_t, void(Arguments...)> {
public:
    template <class Initiation, class... Inputs>
    static auto initiate(Initiation&& initiation, kevring::use_kevring_t, Inputs&&... inputs) {
        return kevring::detail::asio_operation<void(Arguments...), std::decay_t<Initiation>,
                                               std::decay_t<Inputs>...>(
            std::decay_t<Initiation>(std::forward<Initiation>(initiation)),
            std::decay_t<Inputs>(std::forward<Inputs>(inputs))...);
    }
};
