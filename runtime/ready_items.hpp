// ready_items.hpp: the items of a channel that are available, as a range.
#pragma once

#include <kevring/runtime/generator.hpp>

#include <cstddef>
#include <limits>
#include <utility>

namespace kevring {

/// Takes the items of a channel that are available, at most `item_count_max`, without waiting: one for
/// each step of the range. It works with the views of the standard library, and of range-v3 where the
/// range is a variable.
///
///     for (const job& each : ready_items(jobs, 16) | std::views::transform(prepare)) run(each);
///
/// Lifetime   `source` outlives the range. An item is valid until the next step. An item that a view has
///            taken and not passed on is lost, as by std::views::take: pass the bound here.
/// Thread     As try_receive() of the channel.
template <class Channel>
generator<typename Channel::value_type> ready_items(
    Channel& source, std::size_t item_count_max = std::numeric_limits<std::size_t>::max()) {
    for (std::size_t i = 0; i < item_count_max; ++i) {
        auto item = source.try_receive();
        if (!item) co_return;
        co_yield std::move(*item);
    }
}

}  // namespace kevring
