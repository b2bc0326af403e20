// event_generator.hpp: the events of a queue as a stream of items.
#pragma once

#include <kevring/kevent/event.hpp>
#include <kevring/kevent/event_queue.hpp>
#include <kevring/runtime/async_generator.hpp>

#include <system_error>
#include <utility>

namespace kevring {

/// The events of a queue, one after the other.
///
/// Result     Ends with the first error of event_queue::next(), which is stored in `failure`. A new
///            generator continues: no event is lost.
/// Lifetime   `source` and `failure` outlive the generator.
/// Thread     The loop's thread.
inline async_generator<event> queued_events(event_queue& source, std::error_code& failure) {
    while (true) {
        auto next = co_await source.next();
        if (!next) {
            failure = next.error();
            co_return;
        }
        co_yield std::move(*next);
    }
}

}  // namespace kevring
