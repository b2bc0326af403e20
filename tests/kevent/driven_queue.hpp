// driven_queue.hpp: a queue whose ring a thread of the library fills, for tests with one consumer.
#pragma once

#include "tests/kevent/kevent_fixture.hpp"

#include <thread>

namespace kevent_test {

/// A queue with a driver, and one consumer.
class driven_queue : public queue {
public:
    explicit driven_queue(unsigned slot_count)
        : queue(slot_count, KEVENT_INIT_ASYNC), slots_(slot_count) {}
    ~driven_queue() { kevent_close(number()); }  // first: the queue uses the memory

    /// True once the ring has `count` records that are not committed; false at the deadline. Makes
    /// no call of the library.
    bool reaches(unsigned count) {
        const auto end = now() + half_of_test_timeout;
        while (filled() < count && now() < end) std::this_thread::yield();
        return filled() >= count;
    }
    unsigned filled() { return (ring_kidx() + slots_ - position_ % slots_) % slots_; }
    /// The oldest record, which is committed.
    ukevent take() {
        REQUIRE(reaches(1));
        const ukevent record = ring().event[position_ % slots_];
        ++position_;
        REQUIRE(commit(position_ % slots_, position_ / slots_) == 1);
        return record;
    }
    unsigned uidx() const { return position_ % slots_; }

private:
    const unsigned slots_;
    unsigned position_ = 0;
};

}  // namespace kevent_test
