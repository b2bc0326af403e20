// loop_thread.hpp: a thread with a ring, for tests that need a second loop.
#pragma once

#include <kevring/runtime/reset_event.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/run.hpp>
#include <kevring/runtime/task.hpp>

#include <latch>
#include <memory>
#include <thread>

/// Drives a ring until it is destroyed or finish() is called.
class loop_thread {
public:
    loop_thread() {
        thread_ = std::jthread([this] {
            kevring::ring loop;
            loop_ = &loop;
            ready_.count_down();
            kevring::run(loop, wait_for_end());
        });
        ready_.wait();
    }
    ~loop_thread() { finish(); }

    kevring::ring& loop() const noexcept { return *loop_; }
    /// Destroys the ring, on its thread, and joins it.
    void finish() {
        if (!thread_.joinable()) return;
        end_.set();
        thread_.join();
    }

private:
    kevring::task<void> wait_for_end() { static_cast<void>(co_await end_.wait()); }

    kevring::ring* loop_ = nullptr;
    std::latch ready_{1};
    kevring::cross_loop::manual_reset_event end_;
    std::jthread thread_;
};
