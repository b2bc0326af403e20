// bench/runtime/sync.cpp: cost of waits of coroutines for each other, on one loop and on two.
//
// Targets on one loop: 15 calls for a channel item. The baselines, in the same process, are a call
// that is not inlined, and a std::mutex that no other thread wants.
#include "bench/support/function_call.hpp"

#include <kevring/runtime/async_generator.hpp>
#include <kevring/runtime/channel.hpp>
#include <kevring/runtime/generator.hpp>
#include <kevring/runtime/mutex.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/run.hpp>
#include <kevring/runtime/semaphore.hpp>
#include <kevring/runtime/sleep.hpp>
#include <kevring/runtime/task.hpp>
#include <kevring/runtime/task_scope.hpp>

#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <thread>

namespace {

using kevring::ring;
using kevring::task;

void std_mutex(benchmark::State& state) {
    std::mutex mutex;
    for (auto _ : state) {
        const std::lock_guard guard(mutex);
        benchmark::ClobberMemory();
    }
}
BENCHMARK(std_mutex);

template <class Mutex>
task<void> lock_often(benchmark::State& state) {
    Mutex mutex;
    for (auto _ : state) {
        const auto guard = co_await mutex.lock();
        benchmark::ClobberMemory();
    }
}
void mutex_free(benchmark::State& state) { kevring::run(lock_often<kevring::mutex>(state)); }
BENCHMARK(mutex_free);
void cross_loop_mutex_free(benchmark::State& state) {
    kevring::run(lock_often<kevring::cross_loop::mutex>(state));
}
BENCHMARK(cross_loop_mutex_free);

task<void> acquire_often(benchmark::State& state) {
    kevring::semaphore permits(1);
    for (auto _ : state) {
        const auto acquired = co_await permits.acquire();
        benchmark::DoNotOptimize(acquired);
        permits.release();
    }
}
void semaphore_free(benchmark::State& state) { kevring::run(acquire_often(state)); }
BENCHMARK(semaphore_free);

// Two coroutines: each item needs a switch from the sender to the receiver or back, but for those
// that the capacity holds.
template <class Channel>
task<void> receive_all(Channel& items) {
    while (true) {
        const auto item = co_await items.receive();
        if (!item) co_return;
        benchmark::DoNotOptimize(*item);
    }
}
template <class Channel>
task<void> pass_items(ring& loop, benchmark::State& state) {
    Channel items(static_cast<std::size_t>(state.range(0)));
    kevring::task_scope receivers(loop);
    receivers.spawn(receive_all(items));
    int number = 0;
    for (auto _ : state) {
        const auto sent = co_await items.send(++number);
        benchmark::DoNotOptimize(sent);
    }
    items.close();
    co_await receivers.join();
}
void channel_item(benchmark::State& state) {
    ring loop;
    kevring::run(loop, pass_items<kevring::channel<int>>(loop, state));
}
BENCHMARK(channel_item)->ArgName("capacity")->Arg(0)->Arg(1)->Arg(64);

task<void> pass_to_other_loop(benchmark::State& state) {
    kevring::cross_loop::channel<int> items(static_cast<std::size_t>(state.range(0)));
    std::jthread other([&] { kevring::run(receive_all(items)); });
    int number = 0;
    for (auto _ : state) {
        const auto sent = co_await items.send(++number);
        benchmark::DoNotOptimize(sent);
    }
    items.close();
}
void cross_loop_channel_item(benchmark::State& state) { kevring::run(pass_to_other_loop(state)); }
BENCHMARK(cross_loop_channel_item)->ArgName("capacity")->Arg(64)->UseRealTime();

kevring::generator<int> numbers() {
    for (int i = 0;; ++i) co_yield i;
}
void generator_item(benchmark::State& state) {
    auto source = numbers();
    auto iterator = source.begin();
    for (auto _ : state) {
        benchmark::DoNotOptimize(*iterator);
        ++iterator;
    }
}
BENCHMARK(generator_item);

kevring::async_generator<int> async_numbers() {
    for (int i = 0;; ++i) co_yield i;
}
task<void> take_items(benchmark::State& state) {
    auto source = async_numbers();
    for (auto _ : state) {
        const auto item = co_await source.next();
        benchmark::DoNotOptimize(*item);
    }
}
void async_generator_item(benchmark::State& state) { kevring::run(take_items(state)); }
BENCHMARK(async_generator_item);

}  // namespace

BENCHMARK_MAIN();
