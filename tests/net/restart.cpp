// The start of a program right after its predecessor was killed: the address is in use for some
// milliseconds more.
#include "tests/support/catch.hpp"
#include "tests/support/run_on.hpp"
#include "tests/support/scripted_kernel.hpp"

#include <kevring/net/endpoint.hpp>
#include <kevring/net/listener.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/run.hpp>
#include <kevring/runtime/sleep.hpp>
#include <kevring/runtime/task_scope.hpp>

#include <array>
#include <utility>

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

using kevring::endpoint;
using kevring::fd;
using kevring::listener;
using kevring::ring;
using kevring::task;
using namespace std::chrono_literals;

namespace {

const kevring::listener_options waiting{.address_wait = 1h};  // at most address_wait_max

// A listening socket on a free port of the loopback, and its address.
std::pair<fd, endpoint> occupied_address() {
    ring loop;
    auto first = listener::bind(loop, endpoint::parse("127.0.0.1:0").value()).value();
    const endpoint local = first.local().value();
    fd copy(::dup(first.native().number()));
    return {std::move(copy), local};
}

}  // namespace

TEST_CASE("a program starts at once after its predecessor was killed", "[net][listener]") {
    for (int round = 0; round < 20; ++round) {
        std::array<int, 2> ends{};
        REQUIRE(::pipe(ends.data()) == 0);
        auto [holder, local] = occupied_address();
        const pid_t predecessor = ::fork();
        REQUIRE(predecessor >= 0);
        if (predecessor == 0) {
            ring loop;
            auto body = [&]() -> task<void> {
                listener listening(loop, std::move(holder));
                kevring::task_scope accepting(loop);
                auto accept = [&]() -> task<void> {
                    static_cast<void>(co_await listening.accept());
                };
                accepting.spawn(accept());
                co_await kevring::yield();
                co_await kevring::yield();  // the accept is in the kernel
                static_cast<void>(!::write(ends[1], "r", 1));
                co_await accepting.join();
            };
            kevring::run(loop, body());
            ::_exit(0);
        }
        holder.reset();
        char ready = 0;
        REQUIRE(::read(ends[0], &ready, 1) == 1);
        ::close(ends[0]);
        ::close(ends[1]);
        ::kill(predecessor, SIGKILL);
        REQUIRE(::waitpid(predecessor, nullptr, 0) == predecessor);

        const auto opened = kevring::open_listening_socket(local, waiting);

        CHECK(opened.has_value());
    }
}

TEST_CASE("an address that stays in use is reported", "[net][listener]") {
    const auto [holder, local] = occupied_address();

    CHECK(kevring::open_listening_socket(local).error() == std::errc::address_in_use);
    CHECK(kevring::open_listening_socket(local, waiting).error() == std::errc::address_in_use);
}

TEST_CASE("a bind never blocks a thread that drives a ring", "[net][listener]") {
    const auto [holder, local] = occupied_address();
    scripted_kernel script;
    ring loop({}, script);
    auto body = [&]() -> task<void> {
        rusage before{};
        ::getrusage(RUSAGE_THREAD, &before);
        CHECK(listener::bind(loop, local, waiting).error() == std::errc::address_in_use);
        rusage after{};
        ::getrusage(RUSAGE_THREAD, &after);
        CHECK(after.ru_nvcsw - before.ru_nvcsw <= 1);  // each sleep of a wait would count
        co_return;
    };

    run_on(loop, body);
}

TEST_CASE("a bind that waits lets the loop continue until the address is free", "[net][listener]") {
    auto [holder, local] = occupied_address();
    scripted_kernel script;
    script.clock_ns = 1'000'000'000;
    ring loop({}, script);
    unsigned other_count = 0;
    auto others = [&]() -> task<void> {
        for (int i = 0; i < 10; ++i) {
            static_cast<void>(co_await kevring::sleep_for(1ms));
            ++other_count;
        }
        holder.reset();
    };
    auto body = [&]() -> task<void> {
        kevring::task_scope scope(loop);
        scope.spawn(others());
        const auto bound = co_await listener::bind_when_free(loop, local);
        CHECK(bound.has_value());
        CHECK(other_count == 10);
        co_await scope.join();
    };

    run_on(loop, body);
}

TEST_CASE("a bind that waits gives up after 100 ms, or with its scope", "[net][listener]") {
    const auto [holder, local] = occupied_address();
    scripted_kernel script;
    script.clock_ns = 1'000'000'000;
    ring loop({}, script);
    auto body = [&]() -> task<void> {
        const auto bound = co_await listener::bind_when_free(loop, local);
        CHECK(bound.error() == std::errc::address_in_use);
        CHECK(*script.clock_ns >= 1'100'000'000);
        CHECK(*script.clock_ns < 1'200'000'000);

        const auto limited =
            co_await kevring::with_timeout(listener::bind_when_free(loop, local), 5ms);
        CHECK(limited.error() == std::errc::timed_out);
    };

    run_on(loop, body);
}
