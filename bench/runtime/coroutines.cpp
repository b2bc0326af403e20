// bench/runtime/coroutines.cpp: CPU time of coroutine steps without the kernel.
//
// Targets: 2 ns for an await that is ready, 8 ns to suspend and be resumed by the loop, 12 ns
// for a child task whose frame is recycled. The baselines, in the same process, are a call that is
// not inlined, and the same child with a frame from malloc().
#include "bench/support/function_call.hpp"

#include <kevring/runtime/operations/nop.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/run.hpp>
#include <kevring/runtime/sleep.hpp>
#include <kevring/runtime/task.hpp>
#include <kevring/runtime/task_scope.hpp>

#include <benchmark/benchmark.h>

#include <coroutine>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <utility>

namespace {

using kevring::task;

// The await of a stream with a buffered item: it spends inline budget and does not suspend.
class ready_item {
public:
    explicit ready_item(kevring::ring& loop) noexcept : loop_(loop) {}
    bool await_ready() const noexcept { return loop_.spend_inline_budget(); }
    bool await_suspend(std::coroutine_handle<>) const noexcept { return false; }
    int await_resume() const noexcept { return 1; }

private:
    kevring::ring& loop_;
};

task<void> await_ready_items(kevring::ring& loop, benchmark::State& state) {
    std::int64_t total = 0;
    for (auto _ : state) {
        ready_item item(loop);
        total += co_await item;
        benchmark::DoNotOptimize(total);
    }
}
void await_ready(benchmark::State& state) {
    kevring::ring loop;
    kevring::run(loop, await_ready_items(loop, state));
}
BENCHMARK(await_ready);

task<void> yield_beside(const bool& done) {
    while (!done) co_await kevring::yield();
}
task<void> yield_often(kevring::ring& loop, benchmark::State& state) {
    bool done = false;
    kevring::task_scope others(loop);
    for (std::int64_t i = 1; i < state.range(0); ++i) others.spawn(yield_beside(done));
    for (auto _ : state) co_await kevring::yield();
    done = true;
    co_await others.join();
    // One benchmark iteration is one loop iteration, which resumes each coroutine once.
    state.counters["per_resume"] =
        benchmark::Counter(static_cast<double>(state.iterations() * state.range(0)),
                           benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}
void suspend_and_resume(benchmark::State& state) {
    kevring::ring loop;
    kevring::run(loop, yield_often(loop, state));
}
BENCHMARK(suspend_and_resume)->ArgName("coroutines")->Arg(1)->Arg(64);

task<int> child(int number) {
    benchmark::DoNotOptimize(number);
    co_return number + 1;
}
task<void> await_children(benchmark::State& state) {
    int number = 0;
    for (auto _ : state) {
        auto one = child(number);
        number = co_await std::move(one);
    }
    benchmark::DoNotOptimize(number);
}
void child_task(benchmark::State& state) {
    kevring::ring loop;
    kevring::run(loop, await_children(state));
}
BENCHMARK(child_task);

// The least that a lazy task can be, with a frame from malloc().
struct plain_task {
    struct promise_type {
        static void* operator new(std::size_t bytes) { return std::malloc(bytes); }
        static void operator delete(void* frame) { std::free(frame); }
        plain_task get_return_object() {
            return {std::coroutine_handle<promise_type>::from_promise(*this)};
        }
        std::suspend_always initial_suspend() const noexcept { return {}; }
        std::suspend_always final_suspend() const noexcept { return {}; }
        void return_value(int given) noexcept { value = given; }
        void unhandled_exception() const noexcept { std::terminate(); }
        int value = 0;
    };
    std::coroutine_handle<promise_type> frame;
};
plain_task plain_child(int number) {
    benchmark::DoNotOptimize(number);
    co_return number + 1;
}
void child_with_malloc(benchmark::State& state) {
    int number = 0;
    for (auto _ : state) {
        const plain_task one = plain_child(number);
        one.frame.resume();
        number = one.frame.promise().value;
        one.frame.destroy();
    }
    benchmark::DoNotOptimize(number);
}
BENCHMARK(child_with_malloc);

task<void> await_nops(kevring::ring& loop, benchmark::State& state) {
    for (auto _ : state) {
        kevring::nop_operation nop(loop);
        const auto done = co_await nop;
        benchmark::DoNotOptimize(done.has_value());
    }
    state.counters["enters_per_request"] =
        static_cast<double>(loop.counters().enters) / static_cast<double>(loop.counters().requests);
}
void through_the_kernel(benchmark::State& state) {
    kevring::ring loop;
    kevring::run(loop, await_nops(loop, state));
}
BENCHMARK(through_the_kernel);

}  // namespace

BENCHMARK_MAIN();
