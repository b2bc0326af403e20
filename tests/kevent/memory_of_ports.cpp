// memory_of_ports.cpp: every allocation of the calls that make, describe and close a queue of each port
// fails once. See memory.cpp.
#include "tests/kevent/kevent_fixture.hpp"
#include "tests/support/allocations.hpp"

#include <cstddef>
#include <filesystem>
#include <functional>
#include <iterator>
#include <vector>

using namespace kevent_test;

namespace {

constexpr unsigned slot_count = 8;

std::size_t open_descriptors() {
    const std::filesystem::directory_iterator numbers("/proc/self/fd");
    return static_cast<std::size_t>(std::distance(begin(numbers), end(numbers)));
}

// Calls `act` with each of its allocations failing in turn. `undo` takes back a call that was
// successful. 0, or the number of the check that failed.
int try_all(const std::function<int()>& act, const std::function<void(int)>& undo) {
    for (std::uint64_t good_ones = 0; good_ones < 1000; ++good_ones) {
        const std::size_t before = open_descriptors();
        bool failed = false;
        int result = 0;
        {
            const failing_allocation one(good_ones);
            result = act();
            failed = one.has_failed();
        }
        if (result >= 0) undo(result);
        if (result < 0 && result != -ENOMEM) return 1;
        if (open_descriptors() != before) return 2;
        if (!failed) return result < 0 ? 3 : 0;
    }
    return 4;
}

}  // namespace

TEST_CASE(
    "kevent_init of each port reports each allocation that fails, and opens no descriptor then",
    "[kevent][memory]") {
    if (!allocations_are_counted()) return;
    const unsigned flags =
        GENERATE(0u, unsigned{KEVENT_INIT_ONE_THREAD}, unsigned{KEVENT_INIT_ASYNC});
    std::vector<std::uint64_t> memory(1 + slot_count * 5);
    auto* const ring = reinterpret_cast<kevent_ring*>(memory.data());
    const auto make = [&] { return kevent_init(ring, slot_count, flags | KEVENT_INIT_NO_THREAD); };
    const auto close = [](int number) { kevent_close(number); };
    close(make());  // first: tables that stay

    CHECK(in_child([&] { return try_all(make, close); }) == 0);
}

TEST_CASE("kevent_describe reports each allocation that fails, and kevent_close needs none",
          "[kevent][memory]") {
    if (!allocations_are_counted()) return;
    const int number = kevent_init(nullptr, 0, KEVENT_INIT_NO_THREAD);
    REQUIRE(number >= 0);

    CHECK(try_all([&] { return kevent_describe(number, nullptr, 0); }, [](int) {}) == 0);
    int closed = -1;
    bool has_allocated = false;
    {
        const failing_allocation first(0);
        closed = kevent_close(number);
        has_allocated = first.has_failed();
    }
    CHECK(closed == 0);
    CHECK_FALSE(has_allocated);
}
