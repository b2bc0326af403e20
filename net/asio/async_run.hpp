// async_run.hpp: awaitables of this library under the completion tokens of Asio.
#pragma once

#include <kevring/net/asio/ring_executor.hpp>
#include <kevring/runtime/deadline.hpp>
#include <kevring/runtime/detail/remote_task.hpp>
#include <kevring/runtime/operations/send.hpp>
#include <kevring/runtime/result.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/task.hpp>

#include <asio/associated_cancellation_slot.hpp>
#include <asio/associated_executor.hpp>
#include <asio/async_result.hpp>
#include <asio/cancellation_type.hpp>
#include <asio/execution.hpp>
#include <asio/post.hpp>
#include <asio/prefer.hpp>

#include <exception>
#include <memory>
#include <new>
#include <optional>
#include <system_error>
#include <tuple>
#include <type_traits>
#include <utility>

namespace kevring {
namespace detail {

/// The completion of an awaitable whose await gives a T: the signature in the sense of Asio, and its
/// arguments.
template <class T>
struct asio_completion {
    using signature = void(std::exception_ptr, T);
    using arguments = std::tuple<std::exception_ptr, T>;
    template <class U>
    static arguments success(U&& value) {
        return {nullptr, std::forward<U>(value)};
    }
    static arguments failure(std::exception_ptr error) { return {std::move(error), T()}; }
};
template <>
struct asio_completion<void> {
    using signature = void(std::exception_ptr);
    using arguments = std::tuple<std::exception_ptr>;
    static arguments success() { return {nullptr}; }
    static arguments failure(std::exception_ptr error) { return {std::move(error)}; }
};

/// The error_code that an exception stands for. Others end the program, as the function is noexcept.
inline asio::error_code asio_error_of(const std::exception_ptr& failure) noexcept {
    try {
        std::rethrow_exception(failure);
    } catch (const std::system_error& error) {
        return to_asio(error.code());
    } catch (const std::bad_alloc&) {
        return asio::error::no_memory;
    }
}

template <class T>
struct asio_completion<result<T>> {
    using signature = void(asio::error_code, T);
    using arguments = std::tuple<asio::error_code, T>;
    static arguments success(result<T> value) {
        if (!value) return {to_asio(value.error()), T()};
        return {asio::error_code(), std::move(*value)};
    }
    static arguments failure(const std::exception_ptr& error) {
        return {asio_error_of(error), T()};
    }
};
template <>
struct asio_completion<result<void>> {
    using signature = void(asio::error_code);
    using arguments = std::tuple<asio::error_code>;
    static arguments success(result<void> value) {
        return {value ? asio::error_code() : to_asio(value.error())};
    }
    static arguments failure(const std::exception_ptr& error) { return {asio_error_of(error)}; }
};
template <>
struct asio_completion<send_result> : asio_completion<result<std::size_t>> {
    static arguments success(const send_result& value) {
        return {value ? asio::error_code() : to_asio(value.error()), value.bytes_sent()};
    }
};

/// Keeps the handler, and work for its executor, until it is called.
template <class Handler, class Completion>
class asio_handler_holder {
    using executor = asio::associated_executor_t<Handler, ring_executor>;
    using tracked = std::decay_t<decltype(asio::prefer(std::declval<executor>(),
                                                       asio::execution::outstanding_work.tracked))>;

public:
    asio_handler_holder(Handler&& handler, const ring_executor& fallback)
        : executor_(asio::prefer(asio::get_associated_executor(handler, fallback),
                                 asio::execution::outstanding_work.tracked)),
          handler_(std::move(handler)) {}

    /// Calls the handler through its executor. Called once.
    void complete(typename Completion::arguments arguments) {
        // The slot belongs to the thread of the executor, so it is cleared there.
        asio::post(executor_,
                   [handler = std::move(handler_), arguments = std::move(arguments)]() mutable {
                       const auto slot = asio::get_associated_cancellation_slot(handler);
                       if (slot.is_connected()) clear(slot);
                       std::apply(std::move(handler), std::move(arguments));
                   });
    }

private:
    template <class Slot>
    static void clear(Slot slot) {
        slot.clear();
    }
    tracked executor_;
    Handler handler_;
};

template <class Awaitable, class Handler, class Completion>
task<void> run_for_asio(Awaitable awaitable,
                        std::unique_ptr<asio_handler_holder<Handler, Completion>> holder) {
    std::optional<typename Completion::arguments> arguments;
    try {
        if constexpr (std::is_void_v<await_result<Awaitable>>) {
            co_await std::move(awaitable);
            arguments.emplace(Completion::success());
        } else {
            arguments.emplace(Completion::success(co_await std::move(awaitable)));
        }
    } catch (...) {
        arguments.emplace(Completion::failure(std::current_exception()));
    }
    holder->complete(std::move(*arguments));
}

}  // namespace detail

/// Awaits `awaitable` on `loop` as an asynchronous operation of Asio, with any completion token:
/// asio::use_awaitable, use_future, deferred, a callback.
///
///     std::size_t count = co_await async_run(loop, connection.receive(buffer), asio::use_awaitable);
///
/// Signature   void(asio::error_code, T) for an await that gives result<T>, void(asio::error_code)
///             for result<void>; void(std::exception_ptr, T) and void(std::exception_ptr) for others,
///             as of asio::co_spawn(). T has a default constructor.
/// Errors      As asio::error_code, so that operation_canceled is asio::error::operation_aborted. With
///             an error_code signature, a std::system_error of the awaitable is its code, and an
///             exception of another type ends the program.
/// Stop        A cancellation slot of the handler stops the scope of the awaitable: all types of
///             cancellation do. The handler is called when the await has ended.
/// Executor    The handler is posted to its associated executor, by default to the ring.
/// Lifetime    `loop` outlives the operation; its destructor stops the awaitable and calls the handler.
/// Thread      With an executor any, for a task; with `loop` the ring's thread, or any thread before
///             the ring is driven. Operations of sockets and streams are created on the ring's thread.
template <awaitable Awaitable, class Token>
    requires(!std::is_reference_v<Awaitable>)
auto async_run(const ring_executor& target_executor, Awaitable awaitable, Token&& token) {
    using completion = detail::asio_completion<detail::await_result<Awaitable>>;
    auto initiate = [](auto handler, ring_executor executor, Awaitable started) {
        using holder = detail::asio_handler_holder<decltype(handler), completion>;
        ring& target = executor.loop();
        auto state = std::make_shared<detail::remote_task<void>>(target);
        const auto slot = asio::get_associated_cancellation_slot(handler);
        if (slot.is_connected()) {
            auto assigned = slot;
            assigned.assign([state](asio::cancellation_type_t type) {
                if (type != asio::cancellation_type::none) state->request_stop(stop_cause::stopped);
            });
        }
        auto kept = std::make_unique<holder>(std::move(handler), executor);
        detail::start_remote(
            target, *state,
            detail::run_remote(state,
                               detail::run_for_asio<Awaitable, decltype(handler), completion>(
                                   std::move(started), std::move(kept))));
    };
    return asio::async_initiate<Token, typename completion::signature>(
        std::move(initiate), token, target_executor, std::move(awaitable));
}
template <awaitable Awaitable, class Token>
    requires(!std::is_reference_v<Awaitable>)
auto async_run(ring& loop, Awaitable awaitable, Token&& token) {
    return async_run(executor_of(loop), std::move(awaitable), std::forward<Token>(token));
}

}  // namespace kevring
