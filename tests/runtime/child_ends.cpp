// Children end by the scope, a signal, a deadline, or a stop, with the processes that they started.
#include "tests/support/catch.hpp"
#include "tests/support/run_on.hpp"
#include "tests/support/shell_child.hpp"

#include <kevring/runtime/child_process.hpp>
#include <kevring/runtime/when.hpp>

#include <string>
#include <utility>

#include <signal.h>

using kevring::child_stream;
using kevring::exit_status;
using kevring::ring;
using kevring::task;
using namespace std::chrono_literals;

TEST_CASE("the end of the scope ends the whole group, and leaves no zombie",
          "[runtime][child_process]") {
    pid_t grandchild = 0;
    {
        ring loop;
        auto body = [&]() -> task<void> {
            {
                auto child =
                    spawn_shell("sleep 1000 & echo $!; wait", {.output = child_stream::pipe()});
                const std::string line = co_await read_line(child);
                grandchild = std::stoi(line);
            }
            co_await expect_end_of(grandchild);
        };
        run_on(loop, body);
    }
    CHECK(has_no_child());
}

TEST_CASE("a ring that is destroyed ends the children of its tasks", "[runtime][child_process]") {
    {
        ring loop;
        bool waits = false;
        auto body = [&]() -> task<void> {
            auto child = spawn_shell("sleep 1000");
            waits = true;
            const auto ended = co_await child.wait();
            CHECK(ended.error() == std::errc::operation_canceled);
        };
        kevring::spawn(loop, body());
        loop.run_until(waits);
    }
    CHECK(has_no_child());
}

TEST_CASE("processes that outlive the child end with it", "[runtime][child_process]") {
    ring loop;
    auto body = [&]() -> task<void> {
        auto child =
            spawn_shell("sleep 1000 >/dev/null & echo $!", {.output = child_stream::pipe()});
        const std::string line = co_await read_line(child);
        const auto ended = co_await child.wait();
        CHECK(ended.value().success());
        co_await expect_end_of(std::stoi(line));
    };
    run_on(loop, body);
    CHECK(has_no_child());
}

TEST_CASE("terminate sends SIGTERM, and SIGKILL after the grace period",
          "[runtime][child_process]") {
    ring loop;
    auto body = [&]() -> task<void> {
        auto obeys = spawn_shell("sleep 1000");
        const auto terminated = co_await obeys.terminate(1h);
        CHECK(terminated.value().kind == exit_status::exit_kind::killed);
        CHECK(terminated.value().code == SIGTERM);

        auto handles = spawn_shell("trap 'exit 3' TERM; echo ready; while :; do sleep 0.01; done",
                                   {.output = child_stream::pipe()});
        const std::string line = co_await read_line(handles);
        CHECK(line == "ready");
        const auto handled = co_await handles.terminate(1h);
        CHECK(handled.value().code == 3);

        auto refuses =
            spawn_shell("trap '' TERM; echo ready; sleep 1000", {.output = child_stream::pipe()});
        const std::string second_line = co_await read_line(refuses);
        CHECK(second_line == "ready");
        const auto killed = co_await refuses.terminate(1ms);
        CHECK(killed.value().code == SIGKILL);

        auto stopped = spawn_shell("kill -STOP $$; exit 4");
        const auto continued = co_await stopped.terminate(1h);
        CHECK(continued.has_value());
        const auto again = co_await stopped.terminate(1h);
        CHECK(again.value().code == continued.value().code);
    };
    run_on(loop, body);
    CHECK(has_no_child());
}

TEST_CASE("a deadline ends a child, also after a stop of the scope", "[runtime][child_process]") {
    ring loop;
    auto body = [&]() -> task<void> {
        auto slow = spawn_shell("sleep 1000");
        const auto late = co_await slow.wait_or_terminate(1ms, 1h);
        CHECK(late.value().code == SIGTERM);

        auto quick = spawn_shell("exit 5");
        const auto in_time = co_await quick.wait_or_terminate(1h, 1h);
        CHECK(in_time.value().code == 5);

        auto other = spawn_shell("sleep 1000");
        auto ended = other.wait_or_terminate(1h, 1h);
        const auto stopped = co_await kevring::with_timeout(std::move(ended), 1ms);
        CHECK(stopped.value().code == SIGTERM);
    };
    run_on(loop, body);
}

TEST_CASE("a stop before or during wait leaves the child, and a stop after it changes nothing",
          "[runtime][child_process]") {
    ring loop;
    auto body = [&]() -> task<void> {
        auto child = spawn_shell("read -r line; exit 6", {.input = child_stream::pipe()});
        auto before = child.wait();
        const auto at_once = co_await kevring::with_timeout(std::move(before), 0ns);
        CHECK(at_once.error() == std::errc::timed_out);
        auto during = child.wait();
        const auto late = co_await kevring::with_timeout(std::move(during), 1ms);
        CHECK(late.error() == std::errc::timed_out);

        const auto written = co_await child.input().write("line\n");
        CHECK(written.has_value());
        const auto ended = co_await child.wait();
        CHECK(ended.value().code == 6);
        auto after = child.wait();
        const auto same = co_await kevring::with_timeout(std::move(after), 0ns);
        CHECK(same.value().code == 6);
    };
    run_on(loop, body);
}
