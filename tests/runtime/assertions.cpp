// A mistake of the caller ends the process with a text that names the mistake and the remedy.
#include "tests/support/catch.hpp"
#include "tests/support/child_process.hpp"
#include "tests/support/socket_pair.hpp"

#include <kevring/runtime/operations/nop.hpp>
#include <kevring/runtime/operations/receive.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/run.hpp>
#include <kevring/runtime/sleep.hpp>
#include <kevring/runtime/task_scope.hpp>

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <thread>
#include <utility>

using kevring::ring;
using kevring::task;
using kevring::task_scope;
using namespace std::chrono_literals;

namespace {

task<void> await_nop(ring& loop) {
    kevring::nop_operation nop(loop);
    static_cast<void>(co_await nop);
}

}  // namespace

TEST_CASE("an operation awaited twice names the place of the second await",
          "[runtime][assertions]") {
    constexpr unsigned second_await_line = __LINE__ + 6;
    const child_outcome child = run_in_child([] {
        ring loop;
        auto body = [&]() -> task<void> {
            kevring::nop_operation nop(loop);
            static_cast<void>(co_await nop);
            static_cast<void>(co_await nop);
        };
        kevring::run(loop, body());
    });

    CHECK(child.asserted("operation awaited twice; create one operation per await"));
    CHECK(child.error_text.find("assertions.cpp:" + std::to_string(second_await_line)) !=
          std::string::npos);
}

TEST_CASE("a frame destroyed under its operation names the place of the await",
          "[runtime][assertions]") {
    constexpr unsigned await_line = __LINE__ + 11;
    const child_outcome child = run_in_child([] {
        ring loop;
        const socket_pair pair;
        struct foreign {  // a coroutine of another library, which destroys frames as it likes
            struct promise_type {
                foreign get_return_object() {
                    return {std::coroutine_handle<promise_type>::from_promise(*this)};
                }
                static foreign await_byte(ring& on, kevring::fd_ref socket) {
                    std::array<std::byte, 1> byte{};
                    static_cast<void>(co_await kevring::receive_operation(on, socket, byte));
                }
                std::suspend_never initial_suspend() const noexcept { return {}; }
                std::suspend_always final_suspend() const noexcept { return {}; }
                void return_void() const noexcept {}
                void unhandled_exception() const noexcept {}
            };
            std::coroutine_handle<> frame;
        };
        loop.claim();
        foreign::promise_type::await_byte(loop, pair.near()).frame.destroy();
    });

    CHECK(
        child.asserted("operation destroyed before it ended; stop the awaiting task and join it "
                       "before its frame is destroyed"));
    CHECK(child.error_text.find("assertions.cpp:" + std::to_string(await_line)) !=
          std::string::npos);
}

TEST_CASE("an operation of another thread's ring is refused", "[runtime][assertions][threads]") {
    const child_outcome child = run_in_child([] {
        ring other;
        std::thread([&] { other.claim(); }).join();
        ring loop;
        kevring::run(loop, await_nop(other));
    });

    CHECK(
        child.asserted("operation awaited on a thread that does not drive its ring; await it in "
                       "a task of that ring"));
}

TEST_CASE("a stop from another thread names the thread-safe ways",
          "[runtime][assertions][threads]") {
    const child_outcome child = run_in_child([] {
        ring loop;
        auto body = [&]() -> task<void> {
            task_scope scope(loop);
            scope.spawn(await_nop(loop));
            std::thread([&] { scope.request_stop(); }).join();
            co_await scope.join();
        };
        kevring::run(loop, body());
    });

    CHECK(
        child.asserted("stop requested on a thread that does not drive the ring; use a "
                       "std::stop_token with with_stop(), or post() the stop"));
}

TEST_CASE("a ring is not driven by a second thread", "[runtime][assertions][threads]") {
    const child_outcome child = run_in_child([] {
        ring loop;
        kevring::run(loop, await_nop(loop));
        std::thread([&] { kevring::run(loop, await_nop(loop)); }).join();
    });

    CHECK(
        child.asserted("ring driven by a second thread; post() to it from other threads, or "
                       "create one ring per thread"));
}

TEST_CASE("a sleep outside of a loop is refused", "[runtime][assertions]") {
    const child_outcome child = run_in_child([] { static_cast<void>(kevring::sleep_for(1ms)); });

    CHECK(
        child.asserted("sleep_for() called on a thread that drives no ring; call it in a task "
                       "that run() or spawn() started"));
}

TEST_CASE("a task awaited after it was moved from is refused", "[runtime][assertions]") {
    const child_outcome child = run_in_child([] {
        ring loop;
        auto body = [&]() -> task<void> {
            task<void> first = await_nop(loop);
            task<void> second = std::move(first);
            co_await std::move(first);  // NOLINT(bugprone-use-after-move)
            co_await std::move(second);
        };
        kevring::run(loop, body());
    });

    CHECK(
        child.asserted("task awaited after it was moved from; await the task that it was moved "
                       "to"));
}

TEST_CASE("a scope that is not joined is refused", "[runtime][assertions]") {
    const child_outcome child = run_in_child([] {
        ring loop;
        auto body = [&]() -> task<void> {
            task_scope scope(loop);
            scope.spawn(await_nop(loop));
            co_return;
        };
        kevring::run(loop, body());
    });

    CHECK(
        child.asserted("task_scope destroyed while its tasks run; await join() first, or use "
                       "in_scope()"));
}

TEST_CASE("a task awaited twice is refused", "[runtime][assertions]") {
    const child_outcome child = run_in_child([] {
        ring loop;
        auto body = [&]() -> task<void> {
            task<void> kept = await_nop(loop);
            co_await std::move(kept);
            co_await std::move(kept);  // NOLINT(bugprone-use-after-move)
        };
        kevring::run(loop, body());
    });

    CHECK(child.asserted("task awaited twice; create one task per await"));
}

// The compilers warn about these paths, and compile them.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wreturn-type"
namespace {

task<int> no_value(bool has_value) {
    co_await kevring::yield();
    if (has_value) co_return 1;
}
task<int&> no_reference(int& number) {
    co_await kevring::yield();
    if (number > 1) co_return number;
}

}  // namespace
#pragma GCC diagnostic pop

TEST_CASE("a task that ends without co_return of its value is refused", "[runtime][assertions]") {
    const bool reference = GENERATE(false, true);
    const child_outcome child = run_in_child([reference] {
        auto body = [&]() -> task<int> {
            int number = 1;
            const int with_value = co_await no_value(true);
            if (!reference) co_return with_value + co_await no_value(false);
            int& same = co_await no_reference(number);
            co_return same;
        };
        static_cast<void>(kevring::run(body()));
    });

    CHECK(
        child.asserted("task ended without co_return; end every path of a task<T> with co_return "
                       "of a T"));
}
