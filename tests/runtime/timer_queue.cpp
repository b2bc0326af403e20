#include <kevring/runtime/timer_queue.hpp>

#include "tests/support/catch.hpp"

#include <cstdint>
#include <deque>
#include <functional>
#include <limits>
#include <utility>
#include <vector>

using kevring::timer_node;
using kevring::timer_queue;

namespace {

constexpr std::int64_t earliest_time = std::numeric_limits<std::int64_t>::min();
constexpr std::int64_t never = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t second = 1'000'000'000;
constexpr std::size_t unlimited = ~std::size_t{0};

// A timer that calls what it is given, and is disarmed before the queue is looked at again.
class test_timer : public timer_node {
public:
    explicit test_timer(timer_queue& queue, std::function<void()> on_fire)
        : timer_node([](timer_node& node) noexcept { static_cast<test_timer&>(node).on_fire_(); }),
          queue_(queue),
          on_fire_(std::move(on_fire)) {}
    ~test_timer() { queue_.disarm(*this); }

private:
    timer_queue& queue_;
    std::function<void()> on_fire_;
};

// Timers by number, which note in `fired` when they fire.
struct numbered_timers {
    explicit numbered_timers(std::int64_t now_ns) : queue(now_ns) {}

    test_timer& add(std::int64_t deadline_ns) {
        const int number = static_cast<int>(timers.size());
        test_timer& timer = timers.emplace_back(queue, [this, number] { fired.push_back(number); });
        queue.arm(timer, deadline_ns);
        return timer;
    }

    timer_queue queue;
    std::vector<int> fired;
    std::deque<test_timer> timers;
};

// Calls expire() as a loop does that never sleeps past next_deadline_ns().
std::size_t expire_all(timer_queue& queue, std::int64_t now_ns) {
    std::size_t count = 0;
    do count += queue.expire(now_ns, unlimited);
    while (queue.next_deadline_ns() <= now_ns && now_ns != never);
    return count;
}

}  // namespace

TEST_CASE("a timer fires at its deadline and not a nanosecond before", "[runtime][timer]") {
    const std::int64_t start = GENERATE(as<std::int64_t>{}, 0, 123'456'789'012'345, -5 * second);
    const std::int64_t delay = GENERATE(as<std::int64_t>{}, 1, 63, 64, 65, 200'000, 262'144, second,
                                        30 * second, 3'600 * second, 400 * 86'400 * second);
    numbered_timers set(start);
    set.add(start + delay);

    CHECK(set.queue.next_deadline_ns() == start + delay);
    CHECK(set.queue.expire(start + delay - 1, unlimited) == 0);
    CHECK(set.queue.next_deadline_ns() == start + delay);
    CHECK(set.queue.expire(start + delay, unlimited) == 1);

    CHECK(set.fired == std::vector<int>{0});
    CHECK_FALSE(set.timers[0].armed());
    CHECK(set.queue.empty());
    CHECK(set.queue.next_deadline_ns() == never);
}

TEST_CASE("timers fire in the order of their deadlines", "[runtime][timer]") {
    numbered_timers set(0);
    set.add(3 * second);
    set.add(70 * second);
    set.add(5);
    set.add(3 * second - 1);
    set.add(4);

    CHECK(set.queue.expire(100 * second, unlimited) == 5);

    CHECK(set.fired == std::vector<int>{4, 2, 3, 0, 1});
}

TEST_CASE("timers with the same deadline fire in the order of arming", "[runtime][timer]") {
    numbered_timers set(0);
    set.add(30 * second);
    set.queue.expire(29 * second, unlimited);
    set.add(30 * second);
    set.queue.expire(30 * second - 5, unlimited);
    set.add(30 * second);
    set.add(30 * second - 1);

    CHECK(set.queue.expire(30 * second, unlimited) == 4);

    CHECK(set.fired == std::vector<int>{3, 0, 1, 2});
}

TEST_CASE("a disarmed timer does not fire, and disarm says whether it was in time",
          "[runtime][timer]") {
    numbered_timers set(0);
    test_timer& kept = set.add(10);
    test_timer& dropped = set.add(10);

    CHECK(set.queue.disarm(dropped));
    CHECK_FALSE(set.queue.disarm(dropped));
    CHECK(set.queue.size() == 1);
    CHECK(set.queue.expire(10, unlimited) == 1);

    CHECK(set.fired == std::vector<int>{0});
    CHECK_FALSE(set.queue.disarm(kept));
}

TEST_CASE("a deadline in the past fires at once, and reads as the time of arming",
          "[runtime][timer]") {
    const std::int64_t past = GENERATE(as<std::int64_t>{}, earliest_time, -1, 0, second - 1);
    numbered_timers set(second);
    const test_timer& timer = set.add(past);

    CHECK(timer.deadline_ns() == second);
    CHECK(set.queue.next_deadline_ns() == second);
    CHECK(set.queue.expire(second, unlimited) == 1);
}

TEST_CASE("a deadline of INT64_MAX is never", "[runtime][timer]") {
    numbered_timers set(earliest_time);
    set.add(never);
    set.add(0);

    CHECK(set.queue.expire(never - 1, unlimited) == 1);

    CHECK(set.fired == std::vector<int>{1});
    CHECK(set.queue.next_deadline_ns() == never);
    CHECK(set.queue.expire(never, unlimited) == 1);
}

TEST_CASE("a time earlier than before fires nothing and does no harm", "[runtime][timer]") {
    numbered_timers set(0);
    set.queue.expire(second, unlimited);
    set.add(2 * second);

    CHECK(set.queue.expire(0, unlimited) == 0);
    CHECK(set.queue.expire(earliest_time, unlimited) == 0);
    CHECK(set.queue.expire(2 * second, unlimited) == 1);
}

TEST_CASE("expire fires no more than it is asked for and leaves the rest due", "[runtime][timer]") {
    numbered_timers set(0);
    for (int i = 0; i < 10; ++i) set.add(5 - i % 2);

    CHECK(set.queue.expire(5, 7) == 7);
    CHECK(set.queue.next_deadline_ns() <= 5);
    CHECK(set.queue.expire(5, 0) == 0);
    CHECK(set.queue.expire(5, 7) == 3);

    CHECK(set.fired == std::vector<int>{1, 3, 5, 7, 9, 0, 2, 4, 6, 8});
}

TEST_CASE("a fire function may disarm a timer that is due in the same call", "[runtime][timer]") {
    timer_queue queue(0);
    int fired = 0;
    test_timer second_timer(queue, [&] { fired += 10; });
    test_timer first_timer(queue, [&] {
        ++fired;
        CHECK(queue.disarm(second_timer));
    });
    queue.arm(first_timer, 7);
    queue.arm(second_timer, 7);

    CHECK(queue.expire(100, unlimited) == 1);

    CHECK(fired == 1);
    CHECK(queue.empty());
}

TEST_CASE("a timer that arms itself in the past does not starve the others", "[runtime][timer]") {
    timer_queue queue(0);
    std::vector<char> fired;
    test_timer* self = nullptr;
    test_timer greedy(queue, [&] {
        fired.push_back('g');
        queue.arm(*self, 0);
    });
    self = &greedy;
    test_timer other(queue, [&] { fired.push_back('o'); });
    queue.arm(greedy, 1);
    queue.arm(other, 50);

    CHECK(queue.expire(100, 4) == 4);

    CHECK(fired == std::vector<char>{'g', 'o', 'g', 'g'});
    CHECK(queue.next_deadline_ns() <= 100);
}

TEST_CASE("a fire function may destroy its own timer", "[runtime][timer]") {
    timer_queue queue(0);
    struct doomed : timer_node {
        doomed() : timer_node([](timer_node& n) noexcept { delete static_cast<doomed*>(&n); }) {}
    };
    queue.arm(*new doomed, 1);
    queue.arm(*new doomed, 1);

    CHECK(queue.expire(1, unlimited) == 2);
}

TEST_CASE("many timers of one slot expire in bounded calls and in order", "[runtime][timer]") {
    constexpr int count = 3 * static_cast<int>(timer_queue::move_count_max) + 7;
    numbered_timers set(0);
    for (int i = 0; i < count; ++i) set.add(30 * second + i / 2);

    // One call does not move enough timers to find the first one.
    CHECK(set.queue.expire(31 * second, unlimited) == 0);
    CHECK(set.queue.next_deadline_ns() <= 31 * second);
    // Between the calls, timers can be armed and disarmed.
    CHECK(set.queue.disarm(set.timers[0]));
    CHECK(set.queue.disarm(set.timers[count - 1]));
    set.add(30 * second);
    set.add(31 * second);
    set.add(90 * second);
    CHECK(expire_all(set.queue, 31 * second) == count);

    std::vector<int> expected;
    for (int i = 1; i < count - 1; ++i) expected.push_back(i);
    expected.push_back(count);  // its deadline was past
    expected.push_back(count + 1);
    CHECK(set.fired == expected);
    CHECK(set.queue.next_deadline_ns() == 90 * second);
}

TEST_CASE("timers that are armed while their slot cascades expire after those with equal deadlines",
          "[runtime][timer]") {
    constexpr int count = 2 * static_cast<int>(timer_queue::move_count_max);
    constexpr std::int64_t late = 30 * second + 1'000'000;
    numbered_timers set(0);
    for (int i = 0; i < count; ++i) set.add(late);
    const int first = count;
    set.add(late - 1);
    CHECK(set.queue.expire(late - 1, unlimited) == 0);  // it has not been found yet
    CHECK(set.queue.next_deadline_ns() <= late - 1);

    set.add(late);
    CHECK(expire_all(set.queue, late - 1) == 1);
    CHECK(set.fired == std::vector<int>{first});
    CHECK(set.queue.next_deadline_ns() == late);
    CHECK(expire_all(set.queue, late) == count + 1);

    CHECK(set.fired.back() == first + 1);
}

TEST_CASE("a crowd that is cancelled while it is being spread leaves nothing", "[runtime][timer]") {
    constexpr int count = 2 * static_cast<int>(timer_queue::move_count_max);
    numbered_timers set(0);
    for (int i = 0; i < count; ++i) set.add(30 * second + i);
    CHECK(set.queue.expire(31 * second, unlimited) == 0);

    for (test_timer& timer : set.timers) set.queue.disarm(timer);
    set.add(32 * second);

    CHECK(set.queue.expire(31 * second, unlimited) == 0);
    CHECK(set.queue.next_deadline_ns() == 32 * second);
    CHECK(set.queue.expire(32 * second, unlimited) == 1);
}

TEST_CASE("a cancelled first timer costs at most one call for nothing", "[runtime][timer]") {
    constexpr std::int64_t second_deadline = 30 * second + 200'000'000;
    numbered_timers set(0);
    test_timer& first = set.add(30 * second + 100'000'000);
    set.add(second_deadline);
    set.add(second_deadline + 100'000'000);
    set.queue.disarm(first);

    const std::int64_t hint = set.queue.next_deadline_ns();
    CHECK(hint <= second_deadline);
    CHECK(set.queue.expire(hint, unlimited) == 0);

    CHECK(set.queue.next_deadline_ns() == second_deadline);
}

TEST_CASE("a million timers take 32 bytes each, and nothing beside them", "[runtime][timer]") {
    STATIC_REQUIRE(sizeof(timer_node) == 32);
    STATIC_REQUIRE(sizeof(timer_queue) < 20'000);
    constexpr std::int64_t count = 1'000'000;
    static std::int64_t fired_count;
    static std::int64_t last_deadline;
    static bool in_order;
    fired_count = last_deadline = 0;
    in_order = true;
    timer_queue queue(0);
    std::deque<timer_node> timers;
    for (std::int64_t i = 0; i < count; ++i) {
        timer_node& timer = timers.emplace_back([](timer_node& node) noexcept {
            ++fired_count;
            in_order = in_order && node.deadline_ns() >= last_deadline;
            last_deadline = node.deadline_ns();
        });
        queue.arm(timer, i * 7'919 % count * 60'000);  // a minute, in no order
    }
    for (std::int64_t i = 0; i < count; i += 2) queue.disarm(timers[static_cast<std::size_t>(i)]);
    CHECK(queue.size() == count / 2);

    for (std::int64_t now = 0; now < 61 * second; now += second / 100) expire_all(queue, now);

    CHECK(fired_count == count / 2);
    CHECK(in_order);
    CHECK(queue.empty());
}
