// watch_set.cpp: see watch_set.hpp.
#include <kevring/kevent/detail/watch_set.hpp>

#include <kevring/runtime/kernel.hpp>

#include <new>
#include <utility>

namespace kevring::detail {
namespace {

constexpr std::uint32_t no_slot = 0;

// From so many on, readiness is asked for in one call.
constexpr unsigned many_min = 4;

}  // namespace

int watch_set::watch(fd_watch& what, fd_listener& listener, std::uint32_t poll_bits) {
    if (what.slot != no_slot) {
        if (many_ && slots_[what.slot].poll_bits == poll_bits) {
            unchanged_tags_.push_back(tag_of(what.slot));
            unchanged_.push_back({what.number, static_cast<short>(poll_bits), 0});
            return 0;
        }
        const int failure = port_.change(what.number, poll_bits, tag_of(what.slot));
        if (failure == 0) slots_[what.slot].poll_bits = poll_bits;
        return failure;
    }
    std::uint32_t number = free_slot_;
    if (number == no_slot) {
        number = static_cast<std::uint32_t>(slots_.size());
        slots_.emplace_back();
    } else {
        free_slot_ = slots_[number].next_free;
    }
    slots_[number].listener = &listener;
    slots_[number].near = what.near;
    slots_[number].poll_bits = poll_bits;
    what.slot = number;
    const int failure = port_.add(what.number, poll_bits, tag_of(number));
    if (failure != 0) {
        slots_[number].next_free = std::exchange(free_slot_, number);
        what.slot = no_slot;
    }
    return failure;
}

void watch_set::unwatch(fd_watch& what) noexcept {
    const std::uint32_t number = std::exchange(what.slot, no_slot);
    if (number == no_slot) return;
    port_.remove(what.number);
    ++slots_[number].generation;
    slots_[number].listener = nullptr;
    slots_[number].next_free = std::exchange(free_slot_, number);
}

void watch_set::begin_many(unsigned count) noexcept {
    if (count < many_min) return;
    try {
        unchanged_.reserve(count);
        unchanged_tags_.reserve(count);
        many_ = true;
    } catch (const std::bad_alloc&) {
        many_ = false;  // one by one is fine, too
    }
}

// A change to the same bits makes the port report what is ready, and nothing else. So only those
// that are need it, which one call finds out; after an event has been dealt with, few are.
void watch_set::catch_up() noexcept {
    if (unchanged_.empty()) return;
    const auto count = static_cast<unsigned>(unchanged_.size());
    const bool looked = kernel::real().poll_now(unchanged_.data(), count) >= 0;
    for (std::size_t i = 0; i < count; ++i) {
        const std::uint64_t tag = unchanged_tags_[i];
        const auto number = static_cast<std::uint32_t>(tag) - event_port::first_free;
        // What is watched no more may have left its slot to another.
        if ((looked && unchanged_[i].revents == 0) || tag_of(number) != tag) continue;
        port_.change(unchanged_[i].fd, slots_[number].poll_bits, tag);
    }
    unchanged_.clear();
    unchanged_tags_.clear();
}

// With many registrations nearly each event costs a miss of the cache, here and in the source:
// begun for all of the batch before the first is waited for.
void watch_set::prefetch(const epoll_event* events, int count) const noexcept {
    for (int i = 0; i < count; ++i) {
        const std::uint32_t number = slot_of(events[i]);
        if (number >= slots_.size() || slots_[number].listener == nullptr) continue;
        // As numbers: what is fetched ahead may lie beside the object, or be nothing at all.
        const auto listener = reinterpret_cast<std::uintptr_t>(slots_[number].listener);
        const auto near = reinterpret_cast<std::uintptr_t>(slots_[number].near);
        __builtin_prefetch(reinterpret_cast<const void*>(listener - 64));
        __builtin_prefetch(reinterpret_cast<const void*>(listener));
        __builtin_prefetch(reinterpret_cast<const void*>(near), 1);
        __builtin_prefetch(reinterpret_cast<const void*>(near + 64), 1);
    }
}

}  // namespace kevring::detail
