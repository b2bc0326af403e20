// races.cpp: a next() that loses a race leaves its event, signal or change to the next one.
#include "tests/support/races.hpp"
#include "tests/support/run_on.hpp"

#include <kevring/kevent/change_stream.hpp>
#include <kevring/kevent/event_queue.hpp>
#include <kevring/kevent/signal_stream.hpp>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include <signal.h>
#include <unistd.h>

using kevring::change_kind;
using kevring::change_stream;
using kevring::event_queue;
using kevring::ring;
using kevring::signal_stream;
using kevring::task;
using kevring::user_event;

namespace {

constexpr int item_count = 60;

}  // namespace

TEST_CASE("an event whose next() loses a race goes to the next", "[kevent][event_queue]") {
    ring loop;
    run_on(loop, []() -> task<void> {
        event_queue queue;
        for (int i = 0; i < item_count; ++i)
            REQUIRE(queue.add(user_event(static_cast<unsigned>(i)), i));

        const auto numbers = co_await numbers_of_races(
            item_count,
            [&](int number) { REQUIRE(queue.notify(user_event(static_cast<unsigned>(number)))); },
            [&] { return queue.next(); },
            [](const kevring::event& got) { return got.user_data<int>(); });

        CHECK(numbers == numbers_up_to(item_count));
    });
}

TEST_CASE("a signal whose next() loses a race goes to the next", "[kevent][signal]") {
    ring loop;
    const int number = SIGRTMIN + 3;
    sigset_t set;
    sigset_t before;
    ::sigemptyset(&set);
    ::sigaddset(&set, number);
    REQUIRE(::pthread_sigmask(SIG_BLOCK, &set, &before) == 0);

    run_on(loop, [&]() -> task<void> {
        auto stream = signal_stream::open({number});
        REQUIRE(stream.has_value());

        const auto numbers = co_await numbers_of_races(
            item_count,
            [&](int value) { REQUIRE(::sigqueue(::getpid(), number, sigval{value}) == 0); },
            [&] { return stream->next(); },
            [](const kevring::signal_info& got) { return got.value; });

        CHECK(numbers == numbers_up_to(item_count));
    });

    const timespec at_once{};
    while (::sigtimedwait(&set, nullptr, &at_once) > 0) {}
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

TEST_CASE("a change whose next() loses a race goes to the next", "[kevent][changes]") {
    ring loop;
    std::string folder = (std::filesystem::temp_directory_path() / "kevring-XXXXXX").string();
    REQUIRE(::mkdtemp(folder.data()) != nullptr);

    run_on(loop, [&]() -> task<void> {
        auto stream = change_stream::open();
        REQUIRE(stream.has_value());
        REQUIRE(stream->add(folder, change_kind::created).has_value());

        const auto numbers = co_await numbers_of_races(
            item_count,
            [&](int number) { std::ofstream(folder + "/" + std::to_string(number)) << "bytes"; },
            [&] { return stream->next(); },
            [](const kevring::change& got) { return std::stoi(got.name); });

        CHECK(numbers == numbers_up_to(item_count));
    });

    std::error_code ignored;
    std::filesystem::remove_all(folder, ignored);
}
