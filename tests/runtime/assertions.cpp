// A mistake of the caller ends the process with a text that names the mistake and the remedy.
#include "tests/support/catch.hpp"
#include "tests/support/child_process.hpp"
#include "tests/support/scripted_kernel.hpp"
#include "tests/support/socket_pair.hpp"

#include <kevring/runtime/operations/nop.hpp>
#include <kevring/runtime/operations/receive.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/run.hpp>
#include <kevring/runtime/sleep.hpp>
#include <kevring/runtime/task_scope.hpp>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <functional>
#include <memory>
#include <stdexcept>
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
                static foreign await_byte(ring& loop, kevring::fd_ref socket) {
                    std::array<std::byte, 1> byte{};
                    static_cast<void>(co_await kevring::receive_operation(loop, socket, byte));
                }
                std::suspend_never initial_suspend() const noexcept { return {}; }
                std::suspend_always final_suspend() const noexcept { return {}; }
                void return_void() const noexcept {}
                void unhandled_exception() const noexcept {}
            };
            std::coroutine_handle<> frame;
        };
        loop.claim();
        foreign::promise_type::await_byte(loop, pair.local()).frame.destroy();
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

TEST_CASE("a loop is not driven from within itself", "[runtime][assertions]") {
    const std::string nested_turn =
        "run_once() called from within the loop of the same ring; await, or spawn() a task, "
        "instead";
    const std::string nested_run =
        "run() or run_until() called from within the loop of the same ring; await the task, or "
        "spawn() it, instead";

    const child_outcome turn_in_run = run_in_child([] {
        ring loop;
        auto body = [&]() -> task<void> {
            loop.run_once(false);
            co_return;
        };
        kevring::run(loop, body());
    });
    CHECK(turn_in_run.asserted(nested_turn));

    const child_outcome run_in_run = run_in_child([] {
        ring loop;
        auto body = [&]() -> task<void> {
            kevring::run(loop, await_nop(loop));
            co_return;
        };
        kevring::run(loop, body());
    });
    CHECK(run_in_run.asserted(nested_run));

    const child_outcome run_in_turn = run_in_child([] {
        ring loop;
        auto body = [&]() -> task<void> {
            kevring::run(loop, await_nop(loop));
            co_return;
        };
        kevring::spawn(loop, body());
        loop.run_once(false);
    });
    CHECK(run_in_turn.asserted(nested_run));

    const child_outcome turn_in_completion = run_in_child([] {
        ring loop;
        auto body = [&]() -> task<void> {
            co_await await_nop(loop);  // resumed by a completion
            loop.run_once(false);
        };
        kevring::run(loop, body());
    });
    CHECK(turn_in_completion.asserted(nested_turn));
}

TEST_CASE("a ring is not destroyed from within its own loop", "[runtime][assertions]") {
    const child_outcome child = run_in_child([] {
        auto loop = std::make_unique<ring>();
        auto body = [&]() -> task<void> {
            loop.reset();
            co_return;
        };
        kevring::run(*loop, body());
    });

    CHECK(
        child.asserted("ring destroyed from within its own loop; destroy it after run() or "
                       "run_once() has returned"));
}

TEST_CASE("a coroutine may drive another ring, and has its own back afterwards",
          "[runtime][ring]") {
    ring outer;
    ring inner;
    auto body = [&]() -> task<void> {
        kevring::run(inner, await_nop(inner));
        CHECK(ring::current() == &outer);
        inner.run_once(false);
        CHECK(ring::current() == &outer);
        co_await await_nop(outer);
    };

    kevring::run(outer, body());
}

TEST_CASE("an error of io_uring_enter that cannot be mended names cause and remedy",
          "[runtime][assertions]") {
    struct row {
        int error;
        const char* text;
    };
    constexpr std::array rows{
        row{EBADF, "the ring's descriptor was closed; close only descriptors"},
        row{EOPNOTSUPP, "the ring's descriptor was closed; close only descriptors"},
        row{EEXIST, "another thread or process entered the ring; use a ring"},
        row{EPERM, "a seccomp filter refuses io_uring since the ring was created; install"},
        row{EBADR, "the kernel had no memory for completions and lost some; raise"},
        row{EINVAL, "internal error: the kernel refuses the library's request; report it"},
    };
    for (const row& each : rows) {
        const child_outcome child = run_in_child([&] {
            scripted_kernel script;
            ring loop({}, script);
            script.enter_answers = {-each.error};
            kevring::run(loop, await_nop(loop));
        });

        INFO(each.text);
        CHECK(WIFSIGNALED(child.wait_status));
        CHECK(child.error_text.find(std::string("io_uring_enter: ") + std::strerror(each.error)) !=
              std::string::npos);
        CHECK(child.error_text.find(each.text) != std::string::npos);
    }
}

TEST_CASE("a shortage of memory in io_uring_enter is waited out", "[runtime][ring]") {
    for (const int error : {ENOMEM, EAGAIN, EBUSY, EINTR, ETIME}) {
        scripted_kernel script;
        ring loop({}, script);
        script.enter_answers = {-error, -error, -error};

        kevring::run(loop, await_nop(loop));

        CHECK(script.enter_answers.empty());
    }
}

namespace {

task<void> yield_for_ever() {
    for (;;) co_await kevring::yield();
}
task<void> sleep_for_ever() {
    for (;;) static_cast<void>(co_await kevring::sleep_for(1h));
}
task<void> request_for_ever(ring& loop) {
    for (;;) co_await await_nop(loop);
}
task<void> receive_for_ever(ring& loop, const socket_pair& pair) {
    kevring::receive_stream stream(loop, pair.local());
    for (;;) static_cast<void>(co_await stream.next());
}

}  // namespace

TEST_CASE("a ring's destructor ends although a coroutine ignores its stop", "[runtime][ring]") {
    for (int kind = 0; kind < 4; ++kind) {
        const child_outcome child = run_in_child([&] {
            const socket_pair pair;
            ring loop;
            kevring::spawn(loop, kind == 0   ? yield_for_ever()
                                 : kind == 1 ? sleep_for_ever()
                                 : kind == 2 ? request_for_ever(loop)
                                             : receive_for_ever(loop, pair));
            loop.run_once(false);
        });

        INFO(kind << ": " << child.error_text);
        CHECK(child.exited(0));
        CHECK(
            child.error_text.find("ring destroyed while a coroutine runs that ignores its stop") !=
            std::string::npos);
    }
}

namespace {

// Calls `each(count)` in every iteration, and never ends.
task<void> count_iterations(int& count, std::function<void(int)> each) {
    for (;;) {
        co_await kevring::yield();
        each(++count);
    }
}

}  // namespace

TEST_CASE("a coroutine that yields for ever is abandoned after 10 000 iterations",
          "[runtime][ring]") {
    const child_outcome child = run_in_child([] {
        int count = 0;
        {
            ring loop;
            kevring::spawn(loop, count_iterations(count, [](int) {}));
            loop.run_once(false);
        }
        if (count < 9'900 || count > 10'100) throw std::runtime_error(std::to_string(count));
    });

    INFO(child.error_text);
    CHECK(child.exited(0));
}

// Before, the iterations of the whole shutdown were counted, and the answers that were still to
// come were lost with the coroutines that awaited them.
TEST_CASE("a request that ends gives a ring's destructor its 10 000 iterations again",
          "[runtime][ring]") {
    const child_outcome child = run_in_child([] {
        int count = 0;
        {
            scripted_kernel script;
            ring loop({}, script);
            script.hold(IORING_OP_NOP);
            kevring::spawn(loop, await_nop(loop));
            loop.run_once(false);
            kevring::spawn(loop, count_iterations(count, [&script](int iterations) {
                               if (iterations == 9'000) script.release();
                           }));
            loop.run_once(false);
        }
        if (count < 18'900 || count > 19'100) throw std::runtime_error(std::to_string(count));
    });

    INFO(child.error_text);
    CHECK(child.exited(0));
}
