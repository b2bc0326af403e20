#include <kevring/runtime/timer_queue.hpp>

#include <kevring/runtime/detail/process.hpp>

#include <algorithm>
#include <bit>

namespace kevring {

timer_queue::timer_queue(std::int64_t now_ns) noexcept : now_ns_(now_ns), cursor_ns_(now_ns) {
    for (slot& each : slots_) each.next = each.prev = &each;
}

// Hot path: no allocation, no system call.

// Maps a time to an unsigned number with the same order.
inline std::uint64_t timer_queue::key_of(std::int64_t time_ns) noexcept {
    return static_cast<std::uint64_t>(time_ns) ^ (std::uint64_t{1} << 63);
}

inline std::size_t timer_queue::index_for(std::int64_t deadline_ns,
                                          std::int64_t cursor_ns) const noexcept {
    const std::uint64_t differing = key_of(deadline_ns) ^ key_of(cursor_ns);
    const unsigned level = (static_cast<unsigned>(std::bit_width(differing | 1)) - 1) / level_bits;
    const std::uint64_t position = key_of(deadline_ns) >> (level * level_bits);
    return level * slots_per_level + position % slots_per_level;
}

inline std::size_t timer_queue::lowest_index() const noexcept {
    const auto level = static_cast<std::size_t>(std::countr_zero(occupied_levels_));
    const auto position = static_cast<std::size_t>(std::countr_zero(occupied_slots_[level]));
    return level * slots_per_level + position;
}

inline void timer_queue::append(slot& target, std::size_t index, timer_node& node) noexcept {
    const std::size_t level = index / slots_per_level;
    const std::uint64_t bit = std::uint64_t{1} << (index % slots_per_level);
    target.earliest_ns = occupied_slots_[level] & bit
                             ? std::min(target.earliest_ns, node.deadline_ns_)
                             : node.deadline_ns_;
    occupied_slots_[level] |= bit;
    occupied_levels_ |= std::uint64_t{1} << level;
    node.next = &target;
    node.prev = target.prev;
    target.prev->next = &node;
    target.prev = &node;
}

inline void timer_queue::mark_empty(std::size_t index) noexcept {
    const std::size_t level = index / slots_per_level;
    occupied_slots_[level] &= ~(std::uint64_t{1} << (index % slots_per_level));
    if (occupied_slots_[level] == 0) occupied_levels_ &= ~(std::uint64_t{1} << level);
}

inline void timer_queue::unlink(timer_node& node) noexcept {
    detail::timer_links* const next = node.next;
    detail::timer_links* const prev = node.prev;
    next->prev = prev;
    prev->next = next;
    node.next = nullptr;
    // Only the slot itself can be both the next and the previous link.
    if (next == prev) mark_empty(static_cast<std::size_t>(static_cast<slot*>(next) - &slots_[0]));
}

void timer_queue::arm(timer_node& node, std::int64_t deadline_ns) noexcept {
    KEVRING_ASSERT(!node.armed(), "timer armed twice; disarm it before it is armed again");
    node.deadline_ns_ = std::max(deadline_ns, now_ns_);
    const std::size_t index = index_for(node.deadline_ns_, cursor_ns_);
    append(slots_[index], index, node);
    ++size_;
}

bool timer_queue::disarm(timer_node& node) noexcept {
    if (!node.armed()) return false;
    unlink(node);
    --size_;
    return true;
}

void timer_queue::abandon(detail::timer_links& kept) noexcept {
    if (kept.next == nullptr) kept.next = kept.prev = &kept;
    for (std::size_t index = 0; index < slots_.size(); ++index) {
        slot& from = slots_[index];
        if (from.next == &from) continue;
        from.next->prev = kept.prev;  // the chain goes to the end of `kept`
        kept.prev->next = from.next;
        from.prev->next = &kept;
        kept.prev = from.prev;
        from.next = from.prev = &from;
        mark_empty(index);
    }
    size_ = 0;
    cascading_index_ = no_index;
}

std::size_t timer_queue::expire(std::int64_t now_ns, std::size_t count_max) noexcept {
    now_ns_ = std::max(now_ns_, now_ns);
    const unsigned generation = detail::fork_generation();
    std::size_t move_budget = move_count_max;
    if (cascading_index_ != no_index && !cascade(cascading_index_, move_budget)) return 0;

    for (std::size_t count = 0; count < count_max; ++count) {
        timer_node* due = nullptr;
        while (due == nullptr) {
            if (occupied_levels_ == 0) {
                cursor_ns_ = now_ns_;
                return count;
            }
            const std::size_t index = lowest_index();
            slot& lowest = slots_[index];
            if (lowest.earliest_ns > now_ns_) {
                advance_cursor();
                return count;
            }
            auto* const first = static_cast<timer_node*>(lowest.next);
            if (index < slots_per_level || first->next == &lowest) {
                // The first timer of this slot is the first of all. Perhaps only `earliest_ns` was due.
                lowest.earliest_ns = first->deadline_ns_;
                if (first->deadline_ns_ <= now_ns_) due = first;
            } else if (!cascade(index, move_budget)) {
                return count;
            }
        }
        cursor_ns_ = due->deadline_ns_;
        unlink(*due);
        --size_;
        due->fire_(*due);  // the function may destroy `due`
        if (detail::fork_generation() != generation) [[unlikely]]
            return count + 1;  // it forked, and this is the child: the others are the parent's
    }
    return count_max;
}

// Moves the timers of a slot to lower levels, and the cursor into the slot. Returns false if the
// budget was exhausted before the slot was empty.
bool timer_queue::cascade(std::size_t index, std::size_t& move_budget) noexcept {
    slot& from = slots_[index];
    if (cascading_index_ == no_index) {
        cascading_index_ = index;
        // As far into the slot as all its timers allow: the earliest moves to level 0 directly.
        cascading_cursor_ns_ = from.earliest_ns;
    }
    while (from.next != &from) {
        if (move_budget == 0) return false;
        --move_budget;
        auto& node = *static_cast<timer_node*>(from.next);
        from.next = node.next;
        node.next->prev = &from;
        const std::size_t target = index_for(node.deadline_ns_, cascading_cursor_ns_);
        append(slots_[target], target, node);
    }
    mark_empty(index);
    cursor_ns_ = cascading_cursor_ns_;
    cascading_index_ = no_index;
    return true;
}

// Moves the cursor to now, or to the last time before the lowest slot. No timer may be due.
void timer_queue::advance_cursor() noexcept {
    const std::size_t index = lowest_index();
    const auto shift = static_cast<unsigned>(index / slots_per_level) * level_bits;
    const std::uint64_t begin = key_of(slots_[index].earliest_ns) >> shift << shift;
    // The slot begins after the cursor, so there is a time before it.
    const auto before = static_cast<std::int64_t>(key_of(static_cast<std::int64_t>(begin - 1)));
    cursor_ns_ = std::min(now_ns_, before);
}

std::int64_t timer_queue::next_deadline_ns() const noexcept {
    if (cascading_index_ != no_index)
        return cascading_cursor_ns_;  // due already, and before all others
    if (occupied_levels_ == 0) return never;
    return slots_[lowest_index()].earliest_ns;
}

}  // namespace kevring
