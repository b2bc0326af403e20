// bench/runtime/threads.cpp: the cost of giving work to another thread and awaiting its end.
//
// Each row is one round trip by the wall clock: submit() and join() between two loops, blocking() and
// resume_on() on a pool of one thread, spawn() on the own loop. The baselines, in the same process, are
// the usual alternatives: std::async, a function posted to an asio::thread_pool with a future, and a post to the pool
// and back to the loop of Asio.
#include "bench/support/function_call.hpp"

#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/run.hpp>
#include <kevring/runtime/submit.hpp>
#include <kevring/runtime/task.hpp>
#include <kevring/runtime/task_scope.hpp>
#include <kevring/runtime/thread_pool.hpp>

#include <benchmark/benchmark.h>

#include <asio/executor_work_guard.hpp>
#include <asio/io_context.hpp>
#include <asio/post.hpp>
#include <asio/thread_pool.hpp>
#include <asio/use_future.hpp>

#include <future>
#include <latch>
#include <memory>
#include <thread>

namespace {

using kevring::ring;
using kevring::task;

task<void> nothing() { co_return; }
task<void> spawn_often(ring& loop, benchmark::State& state) {
    kevring::task_scope tasks(loop);
    for (auto _ : state) tasks.spawn(nothing());
    co_await tasks.join();
}
void spawn_on_own_loop(benchmark::State& state) {
    ring loop;
    kevring::run(loop, spawn_often(loop, state));
}
BENCHMARK(spawn_on_own_loop);

task<int> add_one(int number) { co_return number + 1; }
task<void> submit_often(ring& target, benchmark::State& state) {
    int number = 0;
    for (auto _ : state) {
        auto pending = kevring::submit(target, add_one(number));
        number = co_await pending.join();
    }
    benchmark::DoNotOptimize(number);
}
void submit_and_join(benchmark::State& state) {
    std::latch ready(1);
    bool done = false;
    ring* target = nullptr;
    std::jthread other([&] {
        ring driven;
        target = &driven;
        ready.count_down();
        driven.run_until(done);
    });
    ready.wait();
    ring loop;
    kevring::run(loop, submit_often(*target, state));
    kevring::post(*target, [&] { done = true; });
}
BENCHMARK(submit_and_join)->UseRealTime();

task<void> block_often(kevring::thread_pool& pool, benchmark::State& state) {
    int number = 0;
    for (auto _ : state) {
        auto add = [&] { return number + 1; };
        const auto next = co_await kevring::blocking(pool, add);
        number = next.value();
    }
    benchmark::DoNotOptimize(number);
}
void blocking_round_trip(benchmark::State& state) {
    kevring::thread_pool pool({.thread_count_max = 1, .queue_count_max = 64});
    kevring::run(block_often(pool, state));
}
BENCHMARK(blocking_round_trip)->UseRealTime();

task<void> visit_often(kevring::thread_pool& pool, benchmark::State& state) {
    ring& loop = *ring::current();
    int number = 0;
    for (auto _ : state) {
        const auto moved = co_await kevring::resume_on(pool);
        benchmark::DoNotOptimize(moved);
        ++number;
        co_await kevring::resume_on(loop);
    }
    benchmark::DoNotOptimize(number);
}
void resume_on_round_trip(benchmark::State& state) {
    kevring::thread_pool pool({.thread_count_max = 1, .queue_count_max = 64});
    kevring::run(visit_often(pool, state));
}
BENCHMARK(resume_on_round_trip)->UseRealTime();

void std_async_round_trip(benchmark::State& state) {
    int number = 0;
    for (auto _ : state)
        number = std::async(std::launch::async, [number] { return number + 1; }).get();
    benchmark::DoNotOptimize(number);
}
BENCHMARK(std_async_round_trip)->UseRealTime();

void asio_pool_future_round_trip(benchmark::State& state) {
    asio::thread_pool pool(1);
    int number = 0;
    for (auto _ : state) {
        number = asio::post(pool, asio::use_future([number] { return number + 1; })).get();
    }
    benchmark::DoNotOptimize(number);
    pool.join();
}
BENCHMARK(asio_pool_future_round_trip)->UseRealTime();

// The loop of Asio stays free during the call, as with blocking(): a post there, and a post back.
void asio_pool_and_back(benchmark::State& state) {
    asio::io_context context(1);
    asio::thread_pool pool(1);
    const auto work = asio::make_work_guard(context);
    int number = 0;
    bool returned = false;
    for (auto _ : state) {
        returned = false;
        asio::post(pool, [&] {
            const int next = number + 1;
            asio::post(context, [&, next] {
                number = next;
                returned = true;
            });
        });
        while (!returned) context.run_one();
    }
    benchmark::DoNotOptimize(number);
    pool.join();
}
BENCHMARK(asio_pool_and_back)->UseRealTime();

}  // namespace

BENCHMARK_MAIN();
