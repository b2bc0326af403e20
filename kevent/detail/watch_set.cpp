// watch_set.cpp: see watch_set.hpp.
#include <kevring/kevent/detail/watch_set.hpp>

#include <kevring/runtime/kernel.hpp>

#include <new>
#include <utility>

namespace kevring::detail {
namespace {

constexpr std::uint32_t no_slot = 0;

}  // namespace

int watch_set::watch(fd_watch& target, fd_handler& handler, std::uint32_t poll_bits) {
    if (target.slot != no_slot) {
        if (batching_ && slots_[target.slot].poll_bits == poll_bits) {
            unchanged_tags_.push_back(tag_of(target.slot));
            unchanged_.push_back({target.number, static_cast<short>(poll_bits), 0});
            return 0;
        }
        const int failure = port_.change(target.number, poll_bits, tag_of(target.slot));
        if (failure == 0) slots_[target.slot].poll_bits = target.poll_bits = poll_bits;
        return failure;
    }
    std::uint32_t number = free_slot_;
    if (number == no_slot) {
        number = static_cast<std::uint32_t>(slots_.size());
        slots_.emplace_back();
    } else {
        free_slot_ = slots_[number].next_free;
    }
    slots_[number].handler = &handler;
    slots_[number].prefetch_hint = target.prefetch_hint;
    slots_[number].poll_bits = poll_bits;
    target.slot = number;
    target.tag = tag_of(number);
    target.poll_bits = poll_bits;
    const int failure = port_.arm(target.number, poll_bits, tag_of(number));
    if (failure != 0) {
        slots_[number].next_free = std::exchange(free_slot_, number);
        target.slot = no_slot;
    }
    return failure;
}

void watch_set::unwatch(fd_watch& target) noexcept {
    const std::uint32_t number = std::exchange(target.slot, no_slot);
    if (number == no_slot) return;
    port_.disarm(target.number, tag_of(number));
    ++slots_[number].generation;
    slots_[number].handler = nullptr;
    slots_[number].next_free = std::exchange(free_slot_, number);
}

void watch_set::begin_batch(unsigned count) noexcept {
    if (count < batch_min) return;
    try {
        unchanged_.reserve(count);
        unchanged_tags_.reserve(count);
        batching_ = true;
    } catch (const std::bad_alloc&) {
        batching_ = false;  // changes one by one have the same effect
    }
}

// A change to the same bits only makes the port report a descriptor that is ready. One poll(2)
// finds those; after the program has handled its events there are few.
void watch_set::flush_batch() noexcept {
    if (unchanged_.empty()) return;
    const auto count = static_cast<unsigned>(unchanged_.size());
    const bool polled = kernel::real().poll_nowait(unchanged_.data(), count) >= 0;
    for (std::size_t i = 0; i < count; ++i) {
        const std::uint64_t tag = unchanged_tags_[i];
        const std::uint32_t number = slot_of(tag);
        // The slot of a descriptor that was removed since may have another owner.
        if ((polled && unchanged_[i].revents == 0) || tag_of(number) != tag) continue;
        port_.change(unchanged_[i].fd, slots_[number].poll_bits, tag);
    }
    unchanged_.clear();
    unchanged_tags_.clear();
}

// With many registrations nearly each edge costs a cache miss, here and in the source. All of the
// batch is requested before the first one is needed.
void watch_set::prefetch(std::span<const edge> edges) const noexcept {
    for (const edge& report : edges) {
        const std::uint32_t number = slot_of(report.tag);
        if (number >= slots_.size() || slots_[number].handler == nullptr) continue;
        // As numbers: a prefetched address may be outside the object, or invalid.
        const auto handler = reinterpret_cast<std::uintptr_t>(slots_[number].handler);
        const auto hint = reinterpret_cast<std::uintptr_t>(slots_[number].prefetch_hint);
        __builtin_prefetch(reinterpret_cast<const void*>(handler - 64));
        __builtin_prefetch(reinterpret_cast<const void*>(handler));
        __builtin_prefetch(reinterpret_cast<const void*>(hint), 1);
        __builtin_prefetch(reinterpret_cast<const void*>(hint + 64), 1);
    }
}

}  // namespace kevring::detail
