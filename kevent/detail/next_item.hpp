// next_item.hpp: items that a non-blocking descriptor hands out, one for each await.
#pragma once

#include <kevring/kevent/detail/readiness_watch.hpp>
#include <kevring/runtime/assert.hpp>
#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/result.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/sleep.hpp>
#include <kevring/runtime/task.hpp>
#include <kevring/runtime/task_scope.hpp>

#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

namespace kevring::detail {

/// Stores an item in `fetched`: asks `take` until it has one, and waits for an edge of `source`
/// where it has none.
///
/// `take` gives a result<std::optional<Item>>. It is called first, so that no wait begins for
/// an edge that has come already; and not after a stop, so that no item is taken and then dropped.
template <class Take, class Item>
task<result<void>> fetch_item(fd_ref source, std::shared_ptr<readiness_watch>& edges, Take& take,
                              std::optional<Item>& fetched) {
    cancel_scope& scope = co_await current_scope();
    ring& loop = scope.loop();
    KEVRING_ASSERT(
        loop.on_ring_thread(),
        "stream awaited on a thread that does not drive its ring; await it in a task of that ring");
    // first: a read would take what the parent waits for.
    if (loop.created_by_parent_process()) co_return error_from(std::errc::operation_not_permitted);
    if (!loop.spend_inline_budget()) co_await yield();
    if (edges == nullptr) edges = std::make_shared<readiness_watch>(source);
    while (true) {
        if (scope.stop_requested())
            co_return error_from(scope.cause() == stop_cause::deadline
                                     ? std::errc::timed_out
                                     : std::errc::operation_canceled);
        auto item = take();
        if (!item) co_return tl::unexpected<std::error_code>(item.error());
        if (*item) {
            fetched = std::move(**item);
            co_return result<void>();
        }
        const auto edge = co_await edges->wait(loop);
        if (!edge) co_return tl::unexpected<std::error_code>(edge.error());
    }
}

}  // namespace kevring::detail
