// watched_slot.hpp: the descriptors that a ring_port watches, and lists of them.
#pragma once

#include <kevring/runtime/detail/language.hpp>

#include <cstdint>
#include <vector>

namespace kevring::detail {

// One watched descriptor; the low half of its tag is its index.
struct watched_slot {
    std::uint64_t tag = 0;            // 0: not watched
    std::uint64_t prepared_in = 0;    // the call in which a request asks for its present bits
    int number = -1;                  // of the descriptor
    std::uint32_t poll_bits = 0;      // watched for
    std::uint32_t serial = 0;         // of its last request
    std::uint32_t reported_bits = 0;  // of the report that waits for poll()
    std::uint32_t next_change = 0;
    std::uint32_t next_test = 0;
    std::uint32_t next_report = 0;
    bool is_in_kernel = false;  // a request with `serial` is armed
    bool is_changed = false;    // in the list of changes
    bool is_tested = false;     // in the list of tests
    bool is_reported = false;   // in the list of reports
    bool is_set = false;        // the file is an epoll set, and in the control set
    bool is_anonymous = false;  // the file may be an eventfd, or watch one
};

// A singly linked list of slots, by index; 0 is no slot.
template <std::uint32_t watched_slot::* next, bool watched_slot::* is_linked>
class watched_slot_list {
public:
    bool empty() const noexcept { return first_ == 0; }
    void push(std::vector<watched_slot>& slots, std::uint32_t index) noexcept {
        watched_slot& added = slots[index];
        if (added.*is_linked) return;
        added.*is_linked = true;
        added.*next = 0;
        (first_ == 0 ? first_ : slots[last_].*next) = index;
        last_ = index;
    }
    std::uint32_t pop(std::vector<watched_slot>& slots) noexcept {
        const std::uint32_t index = first_;
        slots[index].*is_linked = false;
        first_ = slots[index].*next;
        return index;
    }

private:
    std::uint32_t first_ = 0;
    std::uint32_t last_ = 0;
};

// Of a request in the ring: the index of its slot, and its serial.
constexpr std::uint64_t user_data_of(std::uint32_t index, std::uint32_t serial) noexcept {
    return std::uint64_t{serial} << 32 | index;
}

}  // namespace kevring::detail
