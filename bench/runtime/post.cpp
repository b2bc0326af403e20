// bench/runtime/post.cpp: CPU time of a post to another thread's loop.
//
// Target: 30 ns per item while the loop is busy, when a post needs no wake-up. That figure is the CPU
// time of the posting thread. For an idle loop, the figure is the CPU time of both threads,
// including wake-ups. The baseline, in the same process, is the usual common solution: a deque
// under a mutex, with a condition variable.
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/run.hpp>
#include <kevring/runtime/sleep.hpp>
#include <kevring/runtime/task.hpp>
#include <kevring/runtime/work.hpp>

#include <benchmark/benchmark.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <semaphore>
#include <thread>
#include <vector>

namespace {

constexpr std::int64_t batch_count = 1024;  // items in flight at a time

struct item : kevring::work {
    item() noexcept : work(done) {}
    static void done(work& self) noexcept {
        auto& one = static_cast<item&>(self);
        if (++*one.done_count == batch_count) one.all_done->release();
    }
    std::int64_t* done_count = nullptr;
    std::binary_semaphore* all_done = nullptr;
};

// Something else for the loop to do, 5 us at a time.
kevring::task<void> keep_busy(const bool& ended) {
    while (!ended) {
        const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(5);
        while (std::chrono::steady_clock::now() < until) {}
        co_await kevring::yield();
    }
}

void post_to_loop(benchmark::State& state, bool busy) {
    std::atomic<kevring::ring*> loop{nullptr};
    bool ended = false;
    std::jthread consumer([&] {
        kevring::ring driven;
        loop.store(&driven);
        if (busy)
            kevring::run(driven, keep_busy(ended));
        else
            driven.run_until(ended);
    });
    while (loop.load() == nullptr) std::this_thread::yield();

    std::int64_t done_count = 0;  // the loop's, and read here when it has released
    std::binary_semaphore all_done{0};
    std::vector<item> items(batch_count);
    for (item& each : items) {
        each.done_count = &done_count;
        each.all_done = &all_done;
    }
    for (auto _ : state) {
        done_count = 0;
        for (item& each : items) loop.load(std::memory_order_relaxed)->post(each);
        all_done.acquire();
    }
    state.SetItemsProcessed(state.iterations() * batch_count);

    struct end_work : kevring::work {
        explicit end_work(bool& goal) noexcept
            : work([](work& self) noexcept { static_cast<end_work&>(self).goal = true; }),
              goal(goal) {}
        bool& goal;
    } end(ended);
    loop.load()->post(end);
    consumer.join();
}
void post_to_idle_loop(benchmark::State& state) { post_to_loop(state, false); }
BENCHMARK(post_to_idle_loop)->UseRealTime()->MeasureProcessCPUTime();
void post_to_busy_loop(benchmark::State& state) { post_to_loop(state, true); }
BENCHMARK(post_to_busy_loop)->Iterations(200);  // its time is the poster's, which is short

void deque_and_mutex(benchmark::State& state) {
    std::mutex mutex;
    std::condition_variable filled;
    std::deque<item*> queue;
    bool ended = false;
    std::jthread consumer([&] {
        std::unique_lock lock(mutex);
        while (true) {
            filled.wait(lock, [&] { return ended || !queue.empty(); });
            if (queue.empty()) return;
            item* const one = queue.front();
            queue.pop_front();
            lock.unlock();
            one->run(*one);
            lock.lock();
        }
    });
    std::int64_t done_count = 0;
    std::binary_semaphore all_done{0};
    std::vector<item> items(batch_count);
    for (item& each : items) {
        each.done_count = &done_count;
        each.all_done = &all_done;
    }
    for (auto _ : state) {
        done_count = 0;
        for (item& each : items) {
            {
                const std::lock_guard lock(mutex);
                queue.push_back(&each);
            }
            filled.notify_one();
        }
        all_done.acquire();
    }
    state.SetItemsProcessed(state.iterations() * batch_count);
    {
        const std::lock_guard lock(mutex);
        ended = true;
    }
    filled.notify_one();
    consumer.join();
}
BENCHMARK(deque_and_mutex)->UseRealTime()->MeasureProcessCPUTime();

}  // namespace

BENCHMARK_MAIN();
