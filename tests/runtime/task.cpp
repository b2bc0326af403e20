#include "tests/support/catch.hpp"

#include <kevring/kevring.hpp>

#include <array>
#include <atomic>
#include <stdexcept>
#include <string>
#include <system_error>

#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

using namespace kevring;
using namespace std::chrono_literals;

namespace {

task<int> answer() { co_return 42; }

task<int> sum(int count) {
    int total = 0;
    for (int i = 0; i < count; ++i) total += co_await answer();
    co_return total;
}

task<void> fail() {
    co_await yield();
    throw std::runtime_error("as requested");
}

}  // namespace

TEST_CASE("run() gives what the task gives", "[runtime][task]") { CHECK(run(answer()) == 42); }

TEST_CASE("run() throws what the task throws", "[runtime][task]") {
    CHECK_THROWS_AS(run(fail()), std::runtime_error);
}

// Symmetric transfer would overflow the stack here, in builds where g++ makes it a plain call.
TEST_CASE("a million awaits of tasks that end at once need no stack", "[runtime][task]") {
    CHECK(run(sum(1'000'000)) == 42'000'000);
}

TEST_CASE("a request goes to the kernel and comes back", "[runtime][nop]") {
    ring loop;
    auto body = [&loop]() -> task<bool> {
        nop_operation nop(loop);
        const auto done = co_await nop;
        co_return done.has_value();
    };

    CHECK(run(loop, body()));
}

TEST_CASE("when_all gives everything in order", "[runtime][when]") {
    auto body = []() -> task<int> {
        auto [a, b, c] = co_await when_all(answer(), sum(2), sleep_for(1ms));
        co_return c ? a + b : 0;
    };

    CHECK(run(body()) == 126);
}

TEST_CASE("when_any stops the losers", "[runtime][when]") {
    auto body = []() -> task<std::size_t> {
        const auto first = co_await when_any(sleep_for(1h), sleep_for(1ms), sleep_for(2h));
        CHECK(std::get<0>(first.values)->error() == std::errc::operation_canceled);
        co_return first.index;
    };

    CHECK(run(body()) == 1);
}

TEST_CASE("a deadline ends what a task awaits below it", "[runtime][deadline]") {
    auto body = []() -> task<void> {
        const auto slept = co_await with_timeout(sleep_for(1h), 1ms);
        CHECK(slept.error() == std::errc::timed_out);
    };

    run(body());
}

TEST_CASE("a stream receives what is sent, and the end", "[runtime][receive]") {
    std::array<int, 2> pair{};
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()) == 0);
    fd local(pair[0]);
    fd peer(pair[1]);
    ring loop;
    auto body = [&]() -> task<std::string> {
        std::string all;
        receive_stream stream(loop, local);
        auto sender = [&]() -> task<void> {
            for (int i = 0; i < 100; ++i) {
                const std::string text(100, static_cast<char>('a' + i % 26));
                send_operation send(loop, peer, std::as_bytes(std::span(text)));
                const auto sent = co_await send;
                CHECK(sent.value_or(0) == 100);
            }
            peer.reset();
        };
        task_scope side(loop);
        side.spawn(sender());
        while (true) {
            auto got = co_await stream.next();
            if (!got || got->empty()) break;
            all.append(reinterpret_cast<const char*>(got->data()), got->size());
        }
        co_await side.join();
        co_return all;
    };

    CHECK(run(loop, body()).size() == 10'000);
}

TEST_CASE("run() on threads throws the first failure and stops the others", "[runtime][run]") {
    std::atomic<int> stopped{0};  // Catch2 checks on one thread only
    auto body = [&](unsigned index) -> task<void> {
        if (index == 2) throw std::runtime_error("as requested");
        const auto slept = co_await sleep_for(1h);
        if (!slept && slept.error() == std::errc::operation_canceled) ++stopped;
    };

    CHECK_THROWS_AS(run(4, body), std::runtime_error);
    CHECK(stopped == 3);
}

TEST_CASE("no task begins unless every thread has its ring", "[runtime][run]") {
    const kevring::fd lowest(::dup(STDERR_FILENO));
    REQUIRE(lowest.valid());
    rlimit limit{};
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &limit) == 0);
    rlimit few = limit;
    few.rlim_cur = static_cast<rlim_t>(lowest.number()) + 5;
    std::atomic<int> begun_count{0};
    auto body = [&](unsigned) -> task<void> {
        ++begun_count;
        co_return;
    };

    REQUIRE(::setrlimit(RLIMIT_NOFILE, &few) == 0);
    std::error_code failure;
    try {
        run(8, body);
    } catch (const std::system_error& error) {
        failure = error.code();
    }
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &limit) == 0);

    CHECK(failure == std::errc::too_many_files_open);
    CHECK(begun_count == 0);
}
