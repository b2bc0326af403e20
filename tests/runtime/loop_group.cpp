// Loops that share tasks, and their counters.
#include "tests/support/catch.hpp"
#include "tests/support/loop_thread.hpp"
#include "tests/support/run_on.hpp"

#include <kevring/runtime/loop_group.hpp>
#include <kevring/runtime/reset_event.hpp>
#include <kevring/runtime/submit.hpp>

#include <atomic>
#include <optional>
#include <stdexcept>
#include <thread>
#include <vector>

#include <sched.h>

using kevring::loop_group;
using kevring::ring;
using kevring::task;

namespace {

task<void> wait_for(kevring::cross_loop::manual_reset_event& go) {
    static_cast<void>(co_await go.wait());
}
task<void> fail() {
    co_await kevring::yield();
    throw std::runtime_error("a client that fails on purpose");
}
void turn_all(std::vector<ring>& loops, int count = 4) {
    for (int i = 0; i < count; ++i)
        for (ring& loop : loops) loop.run_once(false);
}

}  // namespace

TEST_CASE("a task goes to the loop with the fewest active tasks", "[runtime][loop_group]") {
    kevring::cross_loop::manual_reset_event first_go;
    kevring::cross_loop::manual_reset_event go;
    loop_group group(3);
    std::vector<ring> loops(2);
    auto first = group.join(loops[0]);
    const auto second = group.join(loops[1]);
    REQUIRE(first.index() == 0);
    REQUIRE(second.index() == 1);

    CHECK(group.spawn(wait_for(go)) == 0u);
    CHECK(group.spawn(wait_for(first_go)) == 1u);
    CHECK(group.spawn_on(1, wait_for(first_go)));
    CHECK(group.spawn(wait_for(go)) == 0u);
    CHECK(group.spawn(wait_for(go)) == 0u);  // equal: it was given fewer
    turn_all(loops);
    CHECK(group.counters(1).active_count() == 2);
    first_go.set();
    turn_all(loops);
    CHECK(group.counters(0).active_count() == 3);
    CHECK(group.counters(1).active_count() == 0);
    CHECK(group.spawn(wait_for(go)) == 1u);
    CHECK_FALSE(group.spawn_on(2, wait_for(go)));
    go.set();
    turn_all(loops);

    CHECK(group.counters(0).started_count == 3);
    CHECK(group.counters(1).started_count == 3);
    CHECK(group.counters(1).ended_count == 3);
}

TEST_CASE("a loop that has left gets no task, and a group without loops refuses",
          "[runtime][loop_group]") {
    kevring::cross_loop::manual_reset_event go;
    go.set();
    loop_group group(2);
    CHECK(group.spawn(wait_for(go)) == std::nullopt);
    std::vector<ring> loops(3);
    const auto first = group.join(loops[0]);
    {
        const auto second = group.join(loops[1]);
        CHECK_THROWS_AS(group.join(loops[2]), std::length_error);
        CHECK(group.counters(1).is_member);
    }

    CHECK(group.spawn(wait_for(go)) == 0u);
    CHECK(group.spawn(wait_for(go)) == 0u);
    CHECK_FALSE(group.counters(1).is_member);
    const auto third = group.join(loops[2]);
    CHECK(third.index() == 1);
    turn_all(loops);
}

TEST_CASE("an exception of a task is counted, and its loop continues", "[runtime][loop_group]") {
    loop_group group(1);
    std::vector<ring> loops(1);
    const auto member = group.join(loops[0]);

    group.spawn(fail());
    turn_all(loops);

    CHECK(group.counters(0).failed_count == 1);
    CHECK(group.counters(0).active_count() == 0);
}

TEST_CASE("counters of loops and groups are read on other threads while they change",
          "[runtime][loop_group][stress]") {
    kevring::cross_loop::manual_reset_event go;
    go.set();
    loop_group group(2);
    loop_thread first;
    loop_thread second;
    const auto first_member = group.join(first.loop());
    const auto second_member = group.join(second.loop());
    std::atomic<bool> done{false};
    std::uint64_t read_count = 0;
    bool plausible = true;
    std::jthread reader([&] {
        std::uint64_t iterations = 0;
        do {
            const kevring::ring_counters now = first.loop().counters();
            plausible = plausible && now.iterations >= iterations &&
                        group.counters(0).ended_count <= group.counters(0).started_count;
            iterations = now.iterations;
            ++read_count;
        } while (!done.load());
    });
    for (int i = 0; i < 300; ++i) group.spawn(wait_for(go));
    while (group.counters(0).active_count() + group.counters(1).active_count() > 0)
        std::this_thread::yield();
    done.store(true);
    reader.join();

    CHECK(plausible);
    CHECK(read_count > 0);
    CHECK(group.counters(0).started_count + group.counters(1).started_count == 300);
    CHECK(first.loop().counters().iterations > 0);
}

TEST_CASE("a pinned thread runs on one processor of those that the process may use",
          "[runtime][loop_group]") {
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    REQUIRE(::sched_getaffinity(0, sizeof allowed, &allowed) == 0);
    for (std::size_t index = 0; index < 3; ++index) {
        std::jthread pinned([&] {
            const bool done = kevring::pin_thread(index).has_value();
            cpu_set_t mine;
            CPU_ZERO(&mine);
            ::sched_getaffinity(0, sizeof mine, &mine);
            cpu_set_t common;
            CPU_AND(&common, &mine, &allowed);
            CHECK(done);
            CHECK(CPU_COUNT(&mine) == 1);
            CHECK(CPU_EQUAL(&common, &mine));
        });
    }
}
