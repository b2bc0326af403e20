// main.cpp: a program of somebody else, built against an installed copy. Prints the version, from a
// coroutine that has slept for a moment.
#include <kevring/kevring.hpp>

#include <chrono>
#include <cstdio>

using namespace std::chrono_literals;

kevring::task<int> say() {
    // Takes the ring through a turn: all that it needs is linked.
    const auto slept = co_await kevring::sleep_for(1ms);
    co_return slept&& std::puts(kevring::version()) >= 0 ? 0 : 1;
}

int main() { return kevring::run(say()); }
