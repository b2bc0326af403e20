// header.cpp: the C header means the same in C (header_c11.c, checked at compile time) and in C++.
#include "tests/support/catch.hpp"

#include <kevring/kevent/kevent.h>

#include <poll.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

extern "C" unsigned long kevent_header_in_c(unsigned slot);

TEST_CASE("a record is 40 bytes and its key 8, without padding", "[kevent][header][K-001][K-002]") {
    STATIC_REQUIRE(sizeof(kevent_id) == 8);
    STATIC_REQUIRE(alignof(kevent_id) == 8);
    STATIC_REQUIRE(sizeof(ukevent) == 40);
    STATIC_REQUIRE(offsetof(ukevent, type) == 8);
    STATIC_REQUIRE(offsetof(ukevent, event) == 12);
    STATIC_REQUIRE(offsetof(ukevent, req_flags) == 16);
    STATIC_REQUIRE(offsetof(ukevent, ret_flags) == 20);
    STATIC_REQUIRE(offsetof(ukevent, ret_data) == 24);
    STATIC_REQUIRE(offsetof(ukevent, user) == 32);
    STATIC_REQUIRE(offsetof(ukevent, ptr) == 32);

    kevent_id id{};
    id.raw[0] = 0x01020304;
    id.raw[1] = 0x05060708;

    std::uint64_t whole = 0;
    std::memcpy(&whole, id.raw, sizeof whole);
    CHECK(id.raw_u64 == whole);
}

TEST_CASE("slot i of a ring is 8 + 40 * i bytes after its start", "[kevent][header][K-003]") {
    std::vector<std::uint64_t> memory(1 + 5 * 8);
    const auto* ring = reinterpret_cast<const kevent_ring*>(memory.data());
    const auto* start = reinterpret_cast<const std::byte*>(ring);

    for (unsigned slot = 0; slot < 8; ++slot) {
        const auto offset = reinterpret_cast<const std::byte*>(&ring->event[slot]) - start;
        CHECK(offset == 8 + 40 * static_cast<std::ptrdiff_t>(slot));
        CHECK(kevent_header_in_c(slot) == static_cast<unsigned long>(offset));
    }
    STATIC_REQUIRE(offsetof(kevent_ring, ring_kidx) == 0);
    STATIC_REQUIRE(offsetof(kevent_ring, ring_over) == 4);
}

TEST_CASE("commands, types, flags and bits have the values of 2006",
          "[kevent][header][K-004][K-005][K-006][K-007][K-008]") {
    // The other values are checked in header_c11.c; poll.h defines these with
    // _GNU_SOURCE only.
    CHECK(KEVENT_POLL_POLLRDNORM == POLLRDNORM);
    CHECK(KEVENT_POLL_POLLRDBAND == POLLRDBAND);
    CHECK(KEVENT_POLL_POLLWRNORM == POLLWRNORM);
    CHECK(KEVENT_POLL_POLLWRBAND == POLLWRBAND);
    CHECK(KEVENT_POLL_POLLMSG == POLLMSG);
    CHECK(KEVENT_POLL_POLLREMOVE == POLLREMOVE);
    CHECK(KEVENT_POLL_POLLRDHUP == POLLRDHUP);
    CHECK(KEVENT_SIGNAL_NOMASK == std::uint64_t{1} << 63);
    CHECK(KEVENT_PROCESS + 1 == KEVENT_MAX);
}
