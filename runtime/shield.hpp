// shield.hpp: awaits that a stop of the scope around them does not reach.
#pragma once

#include <kevring/runtime/cancel_scope.hpp>
#include <kevring/runtime/clock.hpp>
#include <kevring/runtime/deadline.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/task.hpp>
#include <kevring/runtime/task_scope.hpp>

#include <type_traits>
#include <utility>

namespace kevring {

/// Awaits `cleanup` for at most `limit`, whether or not the scope of the caller has been stopped: to
/// answer a request that came too late, or to say goodbye.
///
///     const auto received = co_await s.receive();
///     if (received.error() == std::errc::timed_out)
///         static_cast<void>(co_await shield(s.send(request_timeout), 1s));
///
/// The awaits of `cleanup` end with timed_out after `limit`, and with operation_canceled when the
/// ring is destroyed. The caller waits until `cleanup` has ended.
template <awaitable Awaitable>
    requires(!std::is_reference_v<Awaitable>)
task<detail::await_result<Awaitable>> shield(Awaitable cleanup, nanoseconds limit) {
    cancel_scope& outer = co_await current_scope();
    cancel_scope own(outer.loop());  // inside the root scope, not inside `outer`
    own.set_deadline(add_ns(outer.loop().now_ns(), limit));
    const auto inside = co_await detail::enter_scope(own);
    co_return co_await std::move(cleanup);
}

}  // namespace kevring
