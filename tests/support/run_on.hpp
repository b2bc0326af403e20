// run_on.hpp: runs a test's coroutine on a loop, with a deadline.
#pragma once

#include "tests/support/timeout_multiplier.hpp"

#include <kevring/runtime/deadline.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/run.hpp>
#include <kevring/runtime/sleep.hpp>
#include <kevring/runtime/task.hpp>
#include <kevring/runtime/task_scope.hpp>

#include <chrono>
#include <type_traits>
#include <utility>

/// An await that never completes fails with timed_out after this time. The slowest test takes some
/// seconds, with a sanitizer on a busy machine.
inline const std::chrono::seconds test_deadline{60 * timeout_multiplier()};

/// Runs `body()` on `on`; after the deadline its awaits fail with timed_out.
template <class Body>
auto run_on(kevring::ring& loop, Body&& body) {
    return kevring::run(loop, kevring::with_timeout(body(), test_deadline));
}

/// Awaits `request`, and calls `during` when it is in flight, after its submission.
template <class Request, class During>
auto finish(kevring::ring& loop, Request& request, During& during) {
    return [](kevring::ring& ring, Request& awaited,
              During& act) -> kevring::task<decltype(awaited.await_resume())> {
        auto acting = [&]() -> kevring::task<void> {
            co_await kevring::yield();  // two iterations: the first submits the request
            co_await kevring::yield();
            act();
        };
        kevring::task_scope side(ring);
        side.spawn(acting());
        auto outcome = co_await awaited;
        co_await side.join();
        co_return outcome;
    }(loop, request, during);
}
