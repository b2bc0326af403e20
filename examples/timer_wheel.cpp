// timer_wheel.cpp: many timers in one queue: 100 000 that do not come, and three that do.
#include <kevring/kevent/event_queue.hpp>
#include <kevring/runtime/run.hpp>

#include <chrono>
#include <cstdio>
#include <exception>

namespace {

using namespace std::chrono_literals;
enum class beat { slow, middle, fast, never };
constexpr const char* names[] = {"slow", "middle", "fast", "never"};

kevring::task<void> tick() {
    kevring::event_queue queue;
    for (int i = 0; i < 100'000; ++i)
        kevring::value_or_throw(queue.add(kevring::timer(1h + i * 1ms), beat::never), "timer");
    kevring::value_or_throw(queue.add(kevring::timer(10ms), beat::fast), "timer");
    kevring::value_or_throw(queue.add(kevring::timer(30ms), beat::middle), "timer");
    kevring::value_or_throw(queue.add(kevring::timer(90ms), beat::slow), "timer");

    unsigned counts[4] = {};
    while (counts[static_cast<int>(beat::slow)] < 2) {
        auto got = co_await queue.next();
        const auto event = kevring::value_or_throw(std::move(got), "queue");
        // A late program receives all missed periods in one event.
        counts[static_cast<int>(event.user_data<beat>())] += event.expirations();
    }
    for (int i = 0; i < 4; ++i) std::printf("%s: %u\n", names[i], counts[i]);
}

}  // namespace

int main() try { kevring::run(tick()); } catch (const std::exception& failure) {
    std::fprintf(stderr, "timer_wheel: %s\n", failure.what());
    return 1;
}
