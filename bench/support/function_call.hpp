// bench/support/function_call.hpp: the unit of the benchmarks of single steps, a call that is not inlined.
//
// A program that includes this has the row function_call, beside which its other rows are read.
#pragma once

#include <benchmark/benchmark.h>

namespace kevring::bench {

[[gnu::noinline]] inline int add_one(int number) {
    benchmark::DoNotOptimize(number);
    return number + 1;
}

inline void function_call(benchmark::State& state) {
    int number = 0;
    for (auto _ : state) number = add_one(number);
    benchmark::DoNotOptimize(number);
}

}  // namespace kevring::bench

// At file scope here, so that the row keeps its name without the namespace.
using kevring::bench::function_call;
BENCHMARK(function_call);
