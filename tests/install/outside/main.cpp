// main.cpp: a program of a user, built against an installed copy. Prints the version, from a
// coroutine that has slept for a moment.
#include <kevring/kevring.hpp>

#include <chrono>
#include <cstdio>

using namespace std::chrono_literals;

kevring::task<int> say() {
    // Runs one loop iteration, which needs every linked part.
    const auto slept = co_await kevring::sleep_for(1ms);
    co_return slept&& std::puts(kevring::version()) >= 0 ? 0 : 1;
}

int main() { return kevring::run(say()); }
