// ring_positions.cpp: commit by position, compared with the examples of the specification and with
// a model that uses no arithmetic.
#include "tests/support/catch.hpp"

#include <kevring/kevent/detail/ring_positions.hpp>

#include <cerrno>
#include <cstdint>
#include <deque>
#include <optional>
#include <utility>
#include <vector>

using kevring::detail::decide_commit;
using kevring::detail::lap_of;
using kevring::detail::laps_ahead;
using kevring::detail::ring_positions;
using kevring::detail::slot_of;

namespace {

// A ring as a list: for each filled slot a ticket with slot and lap, in order, and the tickets of
// the last two laps that were removed from the list.
class reference_ring {
public:
    struct ticket {
        std::uint32_t slot;
        std::uint32_t over;
        friend bool operator==(const ticket&, const ticket&) = default;
    };

    reference_ring(std::uint32_t slot_count, ticket next) : slot_count_(slot_count), next_(next) {
        // The tickets that were removed before the test began.
        std::deque<ticket> before;
        ticket t = next;
        for (std::uint32_t i = 0; i < 2 * slot_count; ++i) {
            if (t.slot == 0) {
                t = {slot_count - 1, t.over - 1};
            } else {
                --t.slot;
            }
            before.push_front(t);
        }
        removed_ = before;
    }

    bool place() {
        if (line_.size() == slot_count_) return false;
        line_.push_back(next_);
        next_ = after(next_);
        return true;
    }

    int commit(std::uint32_t slot, std::uint32_t over) {
        if (slot >= slot_count_) return -EINVAL;
        const ticket oldest = line_.empty() ? next_ : line_.front();
        // "Lap" is the lap of the oldest ticket; the laps before and after it are current, too.
        if (over != oldest.over && over != oldest.over + 1 && over != oldest.over - 1) {
            return -EOVERFLOW;
        }
        const ticket upto{slot, over};
        if (upto == oldest) return 0;
        for (const ticket& t : removed_) {
            if (t == upto) return 0;
        }
        std::size_t count = 0;
        for (; count < line_.size(); ++count) {
            if (line_[count] == upto) break;
        }
        if (count == line_.size() && upto != next_) return -EINVAL;
        for (std::size_t i = 0; i < count; ++i) {
            removed_.push_back(line_.front());
            line_.pop_front();
            if (removed_.size() > 3 * slot_count_) removed_.pop_front();
        }
        return static_cast<int>(count);
    }

    std::size_t filled() const { return line_.size(); }
    ticket oldest() const { return line_.empty() ? next_ : line_.front(); }

private:
    ticket after(ticket t) const {
        if (t.slot + 1 < slot_count_) return {t.slot + 1, t.over};
        return {0, t.over + 1};
    }

    std::uint32_t slot_count_;
    ticket next_;
    std::deque<ticket> line_;
    std::deque<ticket> removed_;
};

// Drives positions the way a queue does: the calls of the worked examples.
struct example_ring {
    explicit example_ring(std::uint32_t slot_count) { positions.slot_count = slot_count; }

    std::uint64_t place(std::uint64_t count) {
        const auto fits = count < positions.space() ? count : positions.space();
        positions.producer += fits;
        return fits;
    }
    int commit(std::uint32_t new_uidx, std::uint32_t over) {
        const auto decided = decide_commit(positions, new_uidx, over);
        positions.consumer = decided.consumer;
        return decided.result;
    }
    std::uint32_t kidx() const { return slot_of(positions.producer, positions.slot_count); }
    std::uint32_t uidx() const { return slot_of(positions.consumer, positions.slot_count); }
    std::uint64_t over() const { return lap_of(positions.consumer, positions.slot_count); }

    ring_positions positions;
};

}  // namespace

TEST_CASE("every commit that can be asked of a small ring does what a list of tickets does",
          "[kevent][ring][K-078][K-079][K-080][K-081][K-083][K-084][K-087]") {
    // Laps of 32 bits end in the middle of the third run, and the 33rd bit changes with them.
    const auto first_lap = GENERATE(std::uint64_t{0}, std::uint64_t{7},
                                    (std::uint64_t{1} << 32) - 2, (std::uint64_t{1} << 31) - 2);
    for (std::uint32_t slot_count = 2; slot_count <= 5; ++slot_count) {
        for (std::uint64_t start = 0; start < 4 * slot_count; ++start) {
            for (std::uint32_t filled = 0; filled <= slot_count; ++filled) {
                const std::uint64_t consumer = first_lap * slot_count + start;
                const ring_positions positions{consumer, consumer + filled, slot_count};
                reference_ring fresh(slot_count,
                                     {slot_of(consumer, slot_count),
                                      static_cast<std::uint32_t>(lap_of(consumer, slot_count))});
                for (std::uint32_t i = 0; i < filled; ++i) REQUIRE(fresh.place());
                for (std::uint32_t slot = 0; slot <= slot_count + 1; ++slot) {
                    for (int lap = -4; lap <= 4; ++lap) {
                        const auto over = static_cast<std::uint32_t>(
                            lap_of(consumer, slot_count) + static_cast<std::uint64_t>(lap));
                        reference_ring model = fresh;

                        const auto decided = decide_commit(positions, slot, over);
                        const int expected = model.commit(slot, over);

                        CAPTURE(slot_count, consumer, filled, slot, lap);
                        REQUIRE(decided.result == expected);
                        const auto freed = static_cast<std::uint64_t>(expected > 0 ? expected : 0);
                        REQUIRE(decided.consumer == consumer + freed);
                        REQUIRE(model.filled() == filled - freed);
                        REQUIRE(ring_positions{decided.consumer, positions.producer, slot_count}
                                    .valid());
                    }
                }
            }
        }
    }
}

TEST_CASE("long runs of placing and committing keep step with a list of tickets",
          "[kevent][ring][K-079][K-080][K-087]") {
    // Every sequence of five steps, each one of: place 1, place 2, commit some slot of lap 0 or 1.
    const std::uint32_t slot_count = GENERATE(2u, 3u);
    const std::uint64_t first_lap = GENERATE(std::uint64_t{0}, (std::uint64_t{1} << 32) - 1);
    const std::uint32_t choices = 2 + slot_count * 3;
    std::uint64_t sequences = 1;
    for (int i = 0; i < 5; ++i) sequences *= choices;
    for (std::uint64_t sequence = 0; sequence < sequences; ++sequence) {
        const std::uint64_t start = first_lap * slot_count;
        ring_positions positions{start, start, slot_count};
        reference_ring model(slot_count, {0, static_cast<std::uint32_t>(first_lap)});
        std::uint64_t rest = sequence;
        for (int step = 0; step < 5; ++step, rest /= choices) {
            const auto choice = static_cast<std::uint32_t>(rest % choices);
            if (choice < 2) {
                for (std::uint32_t i = 0; i <= choice; ++i) {
                    const bool fits = positions.space() > 0;
                    if (fits) ++positions.producer;
                    if (model.place() != fits) FAIL("space differs in sequence " << sequence);
                }
            } else {
                const std::uint32_t slot = (choice - 2) % slot_count;
                const auto over = static_cast<std::uint32_t>(first_lap + (choice - 2) / slot_count);
                const auto decided = decide_commit(positions, slot, over);
                positions.consumer = decided.consumer;
                if (model.commit(slot, over) != decided.result) {
                    FAIL("commit differs in sequence " << sequence << " at step " << step);
                }
            }
            if (!positions.valid() || positions.filled() != model.filled() ||
                slot_of(positions.consumer, slot_count) != model.oldest().slot ||
                static_cast<std::uint32_t>(lap_of(positions.consumer, slot_count)) !=
                    model.oldest().over) {
                FAIL("positions differ in sequence " << sequence << " at step " << step);
            }
        }
    }
    SUCCEED();
}

TEST_CASE("the worked example of the specification, with its correct values",
          "[kevent][ring][K-082][K-083]") {
    example_ring ring(4);

    CHECK(ring.positions.space() == 4);
    CHECK(ring.place(3) == 3);
    CHECK(ring.kidx() == 3);
    CHECK(ring.positions.space() == 1);

    CHECK(ring.commit(3, 0) == 3);
    CHECK(ring.uidx() == 3);
    CHECK(ring.positions.space() == 4);

    CHECK(ring.place(3) == 3);  // slots 3 0 1
    CHECK(ring.kidx() == 2);
    CHECK(ring.positions.space() == 1);

    CHECK(ring.commit(2, 0) == 0);  // the lap before the wrap: changes nothing
    CHECK(ring.commit(2, 1) == 3);
    CHECK(ring.uidx() == 2);
    CHECK(ring.over() == 1);

    CHECK(ring.place(9) == 4);  // slots 2 3 0 1; five stay ready
    CHECK(ring.positions.space() == 0);
    CHECK(ring.place(1) == 0);

    CHECK(ring.commit(2, 1) == 0);  // "nothing"
    CHECK(ring.commit(1, 2) == 3);
    CHECK(ring.over() == 2);
    CHECK(ring.positions.space() == 3);

    CHECK(ring.commit(2, 2) == 1);
    CHECK(ring.positions.space() == 4);
    CHECK(ring.commit(4, 2) == -EINVAL);
    CHECK(ring.commit(3, 0) == -EOVERFLOW);
    CHECK(ring.over() == 2);
    CHECK(ring.uidx() == 2);
}

TEST_CASE("a full ring can be committed whole", "[kevent][ring][K-083]") {
    const ring_positions full{6, 10, 4};  // slot 2 of lap 1

    CHECK(decide_commit(full, 2, 1).result == 0);
    CHECK(decide_commit(full, 2, 2).result == 4);
    CHECK(decide_commit(full, 2, 2).consumer == 10);
}

TEST_CASE("a commit beyond the slots of the ring is refused", "[kevent][ring][K-078]") {
    const ring_positions some{0, 6, 8};

    CHECK(decide_commit(some, 8, 0).result == -EINVAL);
    CHECK(decide_commit(some, 0xffffffff, 0).result == -EINVAL);
}

TEST_CASE("commits in order, repeated, and for more than is left", "[kevent][ring][K-079]") {
    example_ring ring(8);
    ring.place(6);

    CHECK(ring.commit(3, 0) == 3);
    CHECK(ring.commit(3, 0) == 0);
    CHECK(ring.commit(6, 0) == 3);
}

TEST_CASE("a commit that comes after a later one changes nothing", "[kevent][ring][K-080]") {
    example_ring ring(8);
    ring.place(6);

    CHECK(ring.commit(6, 0) == 6);
    CHECK(ring.commit(3, 0) == 0);
    CHECK(ring.uidx() == 6);
    CHECK(ring.over() == 0);
    CHECK(ring.positions.space() == 8);
}

TEST_CASE("nothing beyond the producer can be committed", "[kevent][ring][K-081]") {
    CHECK(decide_commit({0, 6, 8}, 7, 0).result == -EINVAL);
    CHECK(decide_commit({0, 0, 8}, 5, 0).result == -EINVAL);   // empty
    CHECK(decide_commit({6, 10, 8}, 4, 1).result == -EINVAL);  // wrapped, 4 filled, 6 asked for
    CHECK(decide_commit({6, 10, 8}, 4, 0).result == 0);        // the same slot a lap ago
    CHECK(decide_commit({2, 5, 8}, 1, 0).result == 0);         // committed already
}

TEST_CASE("a commit across the end of the ring names the lap that it ends on",
          "[kevent][ring][K-082]") {
    example_ring ring(4);
    ring.place(3);
    REQUIRE(ring.commit(3, 0) == 3);
    ring.place(3);

    CHECK(ring.commit(2, 1) == 3);
    CHECK(ring.over() == 1);
}

TEST_CASE("two threads that cross the end of the ring in the wrong order do no harm",
          "[kevent][ring][K-080][K-082]") {
    example_ring ring(4);
    ring.place(3);
    ring.commit(3, 0);
    ring.place(3);  // slot 3 of lap 0, slots 0 and 1 of lap 1

    CHECK(ring.commit(2, 1) == 3);  // B took slots 0 and 1
    CHECK(ring.commit(0, 1) == 0);  // A took slot 3
    CHECK(ring.over() == 1);
    CHECK(ring.positions.space() == 4);
}

TEST_CASE("a lap that is two old or two ahead does not belong to the present",
          "[kevent][ring][K-084]") {
    const ring_positions positions{10, 12, 4};  // lap 2

    CHECK(decide_commit(positions, 3, 0).result == -EOVERFLOW);
    CHECK(decide_commit(positions, 3, 4).result == -EOVERFLOW);
    CHECK(decide_commit(positions, 3, 1).result == 0);
    CHECK(decide_commit(positions, 3, 2).result == 1);
    CHECK(decide_commit(positions, 0, 3).result == 2);
    CHECK(decide_commit(positions, 1, 3).result == -EINVAL);
}

TEST_CASE("the 32 bits of the lap may wrap", "[kevent][ring][K-087]") {
    const std::uint64_t last_lap = (std::uint64_t{1} << 32) - 1;
    example_ring ring(4);
    ring.positions.consumer = ring.positions.producer = last_lap * 4 + 2;

    CHECK(ring.place(4) == 4);
    CHECK(ring.commit(3, 0xffffffff) == 1);
    CHECK(ring.commit(1, 0) == 2);
    CHECK(ring.over() == last_lap + 1);
    CHECK(ring.commit(3, 0xffffffff) == 0);
    CHECK(ring.commit(3, 0xfffffffe) == -EOVERFLOW);
    CHECK(ring.commit(2, 0) == 1);
    CHECK(ring.positions.space() == 4);

    CHECK(laps_ahead(0, last_lap) == 1);
    CHECK(laps_ahead(0xffffffff, last_lap + 1) == -1);
    CHECK(laps_ahead(0xffffffff, 0) == -1);
}
