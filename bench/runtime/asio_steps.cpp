// bench/runtime/asio_steps.cpp: the steps of bench_coroutines and bench_sync in Asio, on one thread.
//
// The unit is the call that is not inlined, as there. Built twice: with epoll, and with io_uring.
#include "bench/support/function_call.hpp"

#include <asio/awaitable.hpp>
#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/experimental/channel.hpp>
#include <asio/io_context.hpp>
#include <asio/post.hpp>
#include <asio/use_awaitable.hpp>

#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <utility>

namespace {

using asio::awaitable;
using asio::use_awaitable;
using channel = asio::experimental::channel<void(asio::error_code, int)>;

awaitable<void> yield_often(benchmark::State& state) {
    for (auto _ : state) co_await asio::post(use_awaitable);
}
void asio_switch(benchmark::State& state) {
    asio::io_context context(1);
    asio::co_spawn(context, yield_often(state), asio::detached);
    context.run();
}
BENCHMARK(asio_switch);

awaitable<int> child(int number) {
    benchmark::DoNotOptimize(number);
    co_return number + 1;
}
awaitable<void> await_children(benchmark::State& state) {
    int number = 0;
    for (auto _ : state) number = co_await child(number);
    benchmark::DoNotOptimize(number);
}
void asio_child(benchmark::State& state) {
    asio::io_context context(1);
    asio::co_spawn(context, await_children(state), asio::detached);
    context.run();
}
BENCHMARK(asio_child);

awaitable<void> nothing() { co_return; }
awaitable<void> spawn_often(asio::io_context& context, benchmark::State& state) {
    for (auto _ : state) {
        asio::co_spawn(context, nothing(), asio::detached);
        co_await asio::post(use_awaitable);  // the spawned coroutine runs here
    }
}
// One switch more than spawn_on_own_loop of bench_threads: Asio starts a coroutine from its queue.
void asio_spawn(benchmark::State& state) {
    asio::io_context context(1);
    asio::co_spawn(context, spawn_often(context, state), asio::detached);
    context.run();
}
BENCHMARK(asio_spawn);

awaitable<void> receive_all(channel& items) {
    try {
        while (true) {
            const int item = co_await items.async_receive(use_awaitable);
            benchmark::DoNotOptimize(item);
        }
    } catch (const std::system_error&) {
        // closed
    }
}
awaitable<void> pass_items(channel& items, benchmark::State& state) {
    int number = 0;
    for (auto _ : state) co_await items.async_send(asio::error_code(), ++number, use_awaitable);
    items.close();
}
void asio_channel_item(benchmark::State& state) {
    asio::io_context context(1);
    channel items(context, static_cast<std::size_t>(state.range(0)));
    asio::co_spawn(context, receive_all(items), asio::detached);
    asio::co_spawn(context, pass_items(items, state), asio::detached);
    context.run();
}
BENCHMARK(asio_channel_item)->ArgName("capacity")->Arg(0)->Arg(1)->Arg(64);

}  // namespace

BENCHMARK_MAIN();
