// caller_ring.cpp: the ring in the program's memory, as the queue fills it and programs commit it.
#include "tests/support/catch.hpp"

#include <kevring/kevent/detail/caller_ring.hpp>

#include <cerrno>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <span>
#include <vector>

using kevring::detail::caller_ring;

namespace {

// A ring as a program makes it, with guard bytes before and after it that must not change.
class ring_memory {
public:
    explicit ring_memory(unsigned slot_count, unsigned char fill = 0xa5)
        : bytes_(guard_bytes + ring_bytes(slot_count) + guard_bytes, fill) {
        std::memset(bytes_.data(), guard, guard_bytes);
        std::memset(bytes_.data() + bytes_.size() - guard_bytes, guard, guard_bytes);
    }

    kevent_ring* get() { return reinterpret_cast<kevent_ring*>(bytes_.data() + guard_bytes); }

    // Overwrites the ring, as a hostile or broken program can at any time.
    void scribble(unsigned char byte) {
        std::memset(bytes_.data() + guard_bytes, byte, bytes_.size() - 2 * guard_bytes);
    }

    bool guards_hold() const {
        for (std::size_t i = 0; i < guard_bytes; ++i) {
            if (bytes_[i] != guard || bytes_[bytes_.size() - 1 - i] != guard) return false;
        }
        return true;
    }

private:
    static constexpr std::size_t guard_bytes = 64;
    static constexpr unsigned char guard = 0xee;

    static std::size_t ring_bytes(unsigned slot_count) { return 8 + std::size_t{40} * slot_count; }

    std::vector<unsigned char> bytes_;
};

ukevent numbered(std::uint64_t number) {
    ukevent record{};
    record.id.raw_u64 = number;
    record.ret_flags = KEVENT_RET_DONE;
    record.user_u64 = ~number;
    return record;
}

// Places `count` records, the first of which is number `first`, and returns how many fitted.
std::size_t place(caller_ring& ring, std::uint64_t first, std::size_t count) {
    std::vector<ukevent> records;
    for (std::size_t i = 0; i < count; ++i) records.push_back(numbered(first + i));
    return ring.place(std::span<const ukevent>(records));
}

}  // namespace

TEST_CASE("memory that cannot be a ring is refused", "[kevent][caller_ring][K-010]") {
    ring_memory memory(4);
    CHECK(caller_ring::check(memory.get(), 0) == -EINVAL);
    CHECK(caller_ring::check(memory.get(), 1) == -EINVAL);
    CHECK(caller_ring::check(memory.get(), 2) == 0);
    CHECK(caller_ring::check(memory.get(), UINT_MAX) == -EINVAL);
    CHECK(caller_ring::check(nullptr, 8) == -EINVAL);
    auto* const crooked =
        reinterpret_cast<kevent_ring*>(reinterpret_cast<std::uintptr_t>(memory.get()) + 4);
    CHECK(caller_ring::check(crooked, 2) == -EINVAL);
}

TEST_CASE("a new ring has a header of zeros", "[kevent][caller_ring][K-011]") {
    ring_memory memory(4);
    const caller_ring ring(memory.get(), 4);
    CHECK(memory.get()->ring_kidx == 0);
    CHECK(memory.get()->ring_over == 0);
    CHECK(ring.space() == 4);
    CHECK(ring.uidx() == 0);
}

TEST_CASE("records are placed slot by slot in order", "[kevent][caller_ring][K-072]") {
    ring_memory memory(4);
    caller_ring ring(memory.get(), 4);

    CHECK(place(ring, 100, 3) == 3);

    CHECK(memory.get()->ring_kidx == 3);
    for (std::uint64_t i = 0; i < 3; ++i) {
        CHECK(memory.get()->event[i].id.raw_u64 == 100 + i);
        CHECK(memory.get()->event[i].ret_flags == KEVENT_RET_DONE);
        CHECK(memory.get()->event[i].user_u64 == ~(100 + i));
    }
    CHECK(ring.space() == 1);
}

TEST_CASE("a full ring takes no record, and takes the next one where it stopped",
          "[kevent][caller_ring][K-069][K-073]") {
    ring_memory memory(4);
    caller_ring ring(memory.get(), 4);

    CHECK(place(ring, 0, 6) == 4);
    CHECK(ring.is_full());
    CHECK(memory.get()->ring_kidx == 0);  // equal to that of an empty ring
    CHECK(place(ring, 4, 2) == 0);
    CHECK(memory.get()->event[0].id.raw_u64 == 0);

    CHECK(ring.commit(1, 0) == 1);
    CHECK(place(ring, 4, 2) == 1);
    CHECK(memory.get()->event[0].id.raw_u64 == 4);
    CHECK(memory.get()->ring_kidx == 1);
}

TEST_CASE("commits match the examples of the specification",
          "[kevent][caller_ring][K-078][K-082][K-083][K-084]") {
    ring_memory memory(4);
    caller_ring ring(memory.get(), 4);

    CHECK(place(ring, 0, 3) == 3);
    CHECK(ring.commit(3, 0) == 3);
    CHECK(place(ring, 3, 3) == 3);
    CHECK(memory.get()->ring_kidx == 2);
    CHECK(memory.get()->ring_over == 0);
    CHECK(ring.commit(2, 0) == 0);  // the lap that was read, not the lap of slot 2
    CHECK(ring.commit(2, 1) == 3);
    CHECK(memory.get()->ring_over == 1);
    CHECK(place(ring, 6, 9) == 4);
    CHECK(ring.space() == 0);
    CHECK(ring.commit(2, 1) == 0);
    CHECK(ring.commit(1, 2) == 3);
    CHECK(memory.get()->ring_over == 2);
    CHECK(ring.commit(2, 2) == 1);
    CHECK(ring.commit(4, 2) == -EINVAL);
    CHECK(ring.commit(3, 0) == -EOVERFLOW);
    CHECK(ring.space() == 4);
}

TEST_CASE("commits of two readers, in order and out of order",
          "[kevent][caller_ring][K-079][K-080][K-081]") {
    ring_memory memory(8);
    caller_ring ring(memory.get(), 8);

    CHECK(ring.commit(5, 0) == -EINVAL);  // empty
    CHECK(place(ring, 0, 6) == 6);
    CHECK(ring.commit(7, 0) == -EINVAL);
    SECTION("in order") {
        CHECK(ring.commit(3, 0) == 3);
        CHECK(ring.commit(3, 0) == 0);
        CHECK(ring.commit(6, 0) == 3);
    }
    SECTION("out of order") {
        CHECK(ring.commit(6, 0) == 6);
        CHECK(ring.commit(3, 0) == 0);
    }
    CHECK(ring.space() == 8);
    CHECK(ring.uidx() == 6);
}

TEST_CASE("an index is stale once someone has committed", "[kevent][caller_ring][K-075][K-076]") {
    ring_memory memory(8);
    caller_ring ring(memory.get(), 8);
    CHECK_FALSE(ring.is_stale(0));
    CHECK(ring.is_stale(3));

    CHECK(place(ring, 0, 5) == 5);
    CHECK_FALSE(ring.is_stale(0));
    CHECK(ring.commit(5, 0) == 5);

    CHECK(ring.is_stale(0));
    CHECK_FALSE(ring.is_stale(5));
}

TEST_CASE("the lap counter wraps after 2^32 laps", "[kevent][caller_ring][K-087]") {
    constexpr unsigned slot_count = 3;
    ring_memory memory(slot_count);
    // The last slot but one of the last lap that a 32-bit counter distinguishes from the first.
    const std::uint64_t first = (std::uint64_t{1} << 32) * slot_count - 2;
    caller_ring ring(memory.get(), slot_count, first);
    CHECK(memory.get()->ring_kidx == 1);
    CHECK(memory.get()->ring_over == 0xffffffffu);

    CHECK(place(ring, 0, 4) == 3);
    CHECK(ring.commit(1, 0xffffffffu) == 0);
    CHECK(ring.commit(2, 0xffffffffu) == 1);
    CHECK(ring.commit(2, 0xfffffffdu) == -EOVERFLOW);
    CHECK(ring.commit(2, 0) == -EINVAL);  // beyond the placed records
    CHECK(ring.commit(1, 0) == 2);
    CHECK(memory.get()->ring_over == 0);
    CHECK(place(ring, 3, 3) == 3);
    CHECK(ring.commit(1, 1) == 3);
    CHECK(memory.get()->ring_over == 1);
}

TEST_CASE("writes of a program into its ring do not change the queue", "[kevent][caller_ring]") {
    constexpr unsigned slot_count = 5;
    ring_memory memory(slot_count);
    caller_ring ring(memory.get(), slot_count);
    std::mt19937 random(20060814);
    std::uint64_t placed = 0;
    std::uint64_t committed = 0;

    for (int round = 0; round < 20'000; ++round) {
        memory.scribble(static_cast<unsigned char>(random()));
        const std::size_t room = slot_count - static_cast<std::size_t>(placed - committed);
        const std::size_t wanted = random() % (slot_count + 2);
        REQUIRE(place(ring, placed, wanted) == std::min(wanted, room));
        placed += std::min(wanted, room);
        memory.scribble(static_cast<unsigned char>(random()));
        // Arbitrary numbers; the queue uses its own positions only.
        const bool wild = random() % 4 == 0;
        const std::uint64_t position = committed + random() % (slot_count + 1);
        const auto slot = wild ? static_cast<std::uint32_t>(random())
                               : static_cast<std::uint32_t>(position % slot_count);
        const auto over = wild ? static_cast<std::uint32_t>(random())
                               : static_cast<std::uint32_t>(position / slot_count);
        const int freed = ring.commit(slot, over);
        if (!wild && position <= placed) REQUIRE(freed == static_cast<int>(position - committed));
        if (!wild && position > placed) REQUIRE(freed == -EINVAL);
        if (freed > 0) committed += static_cast<std::uint64_t>(freed);
        REQUIRE(committed <= placed);
        REQUIRE(ring.space() == slot_count - (placed - committed));
        REQUIRE(memory.guards_hold());
    }
}
