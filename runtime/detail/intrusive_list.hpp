// intrusive_list.hpp: a doubly linked list whose links live in its members; it never allocates.
#pragma once

#include <kevring/runtime/detail/language.hpp>

namespace kevring::detail {

/// One place in a list. A link that is in no list points at itself.
struct list_link {
    list_link() noexcept = default;
    list_link(const list_link&) = delete;
    list_link& operator=(const list_link&) = delete;

    bool linked() const noexcept { return next != this; }

    void unlink() noexcept {
        previous->next = next;
        next->previous = previous;
        next = previous = this;
    }

    /// Puts this link before `place`; with the head of a list that is its end.
    void insert_before(list_link& place) noexcept {
        next = &place;
        previous = place.previous;
        previous->next = this;
        place.previous = this;
    }

    list_link* next = this;
    list_link* previous = this;
};

}  // namespace kevring::detail
