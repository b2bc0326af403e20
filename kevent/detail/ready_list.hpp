// ready_list.hpp: the registrations of a queue that wait to be collected, first in, first out.
#pragma once

#include <kevring/kevent/detail/source.hpp>
#include <kevring/runtime/detail/intrusive_list.hpp>

#include <cstddef>

namespace kevring::detail {

/// A registration is in the list at most once. Owns none of them.
///
/// Thread     The thread that holds the queue's lock.
class ready_list {
public:
    std::size_t size() const noexcept { return size_; }
    bool empty() const noexcept { return size_ == 0; }

    registration& front() noexcept { return static_cast<registration&>(*head_.next); }
    /// `entry` is not in the list.
    void push_back(registration& entry) noexcept {
        entry.insert_before(head_);
        ++size_;
    }
    /// The registration that follows `entry`, or null.
    registration* after(registration& entry) noexcept {
        return entry.next == &head_ ? nullptr : static_cast<registration*>(entry.next);
    }
    /// Inserts `entry`, which is not in the list, before `place`; null: at the end.
    void insert_before(registration& entry, registration* place) noexcept {
        entry.insert_before(place != nullptr ? *place : head_);
        ++size_;
    }
    /// Does nothing if `entry` is not in the list.
    void remove(registration& entry) noexcept {
        if (!entry.ready()) return;
        entry.unlink();
        --size_;
    }

private:
    list_link head_;
    std::size_t size_ = 0;
};

}  // namespace kevring::detail
