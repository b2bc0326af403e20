// bench/runtime/cross_loop.cpp: the cost of what loops of two threads do with each other.
//
// A posted function, an item of a channel with a capacity of 64, a critical section that the other thread
// enters as well, and a connection that moves to the other loop and back. The baselines, in the same
// process: Asio (a post to another io_context and to a strand, a socket that is released and assigned),
// moodycamel's BlockingConcurrentQueue, bounded by its semaphore, and std::mutex with condition variables.
// Times are by the wall clock; the CPU column is that of the process, both threads.
#include <kevring/net/socket.hpp>
#include <kevring/runtime/channel.hpp>
#include <kevring/runtime/mutex.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/run.hpp>
#include <kevring/runtime/submit.hpp>
#include <kevring/runtime/task.hpp>

#include <benchmark/benchmark.h>

#include <asio/executor_work_guard.hpp>
#include <asio/io_context.hpp>
#include <asio/local/connect_pair.hpp>
#include <asio/local/stream_protocol.hpp>
#include <asio/post.hpp>
#include <asio/strand.hpp>
#include <asio/thread_pool.hpp>

#if __has_include(<concurrentqueue/blockingconcurrentqueue.h>)
#include <concurrentqueue/blockingconcurrentqueue.h>
#define KEVRING_HAS_MOODYCAMEL 1
#elif __has_include(<concurrentqueue/moodycamel/blockingconcurrentqueue.h>)
#include <concurrentqueue/moodycamel/blockingconcurrentqueue.h>
#define KEVRING_HAS_MOODYCAMEL 1
#endif

#include <sys/socket.h>

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <latch>
#include <mutex>
#include <optional>
#include <semaphore>
#include <thread>
#include <utility>

namespace {

using kevring::ring;
using kevring::task;

constexpr std::int64_t burst_count = 256;  // posts before the poster waits
constexpr std::size_t capacity = 64;       // of channels and queues

// A ring that another thread drives.
class other_loop {
public:
    other_loop() {
        std::latch ready(1);
        thread_ = std::jthread([&] {
            ring driven;
            loop_ = &driven;
            ready.count_down();
            driven.run_until(done_);
        });
        ready.wait();
    }
    ~other_loop() {
        kevring::post(*loop_, [this] { done_ = true; });
    }
    ring& loop() noexcept { return *loop_; }

private:
    ring* loop_ = nullptr;
    bool done_ = false;
    std::jthread thread_;
};

class other_io_context {
public:
    other_io_context()
        : guard_(asio::make_work_guard(context_)), thread_([this] { context_.run(); }) {}
    ~other_io_context() { guard_.reset(); }
    asio::io_context& context() noexcept { return context_; }

private:
    asio::io_context context_{1};
    asio::executor_work_guard<asio::io_context::executor_type> guard_;
    std::jthread thread_;
};

// Posted functions.

template <class Post>
void post_bursts(benchmark::State& state, Post post) {
    std::int64_t count = 0;
    std::binary_semaphore all_called{0};
    for (auto _ : state) {
        count = 0;
        for (std::int64_t i = 0; i < burst_count; ++i)
            post([&] {
                if (++count == burst_count) all_called.release();
            });
        all_called.acquire();
    }
    state.SetItemsProcessed(state.iterations() * burst_count);
}

void post_to_loop(benchmark::State& state) {
    other_loop other;
    post_bursts(state, [&](auto function) { kevring::post(other.loop(), function); });
}
BENCHMARK(post_to_loop)->UseRealTime()->MeasureProcessCPUTime();

void post_to_io_context(benchmark::State& state) {
    other_io_context other;
    post_bursts(state, [&](auto function) { asio::post(other.context(), function); });
}
BENCHMARK(post_to_io_context)->UseRealTime()->MeasureProcessCPUTime();

void post_to_strand(benchmark::State& state) {
    asio::thread_pool pool(1);
    const auto strand = asio::make_strand(pool);
    post_bursts(state, [&](auto function) { asio::post(strand, function); });
    pool.join();
}
BENCHMARK(post_to_strand)->UseRealTime()->MeasureProcessCPUTime();

// Items with back-pressure. 0 ends the consumer.

task<void> receive_all(kevring::cross_loop::channel<int>& items) {
    while (true) {
        const auto item = co_await items.receive();
        if (!item) co_return;
        benchmark::DoNotOptimize(*item);
    }
}
task<void> send_items(benchmark::State& state) {
    kevring::cross_loop::channel<int> items(capacity);
    std::jthread other([&] { kevring::run(receive_all(items)); });
    int number = 0;
    for (auto _ : state) {
        const auto sent = co_await items.send(++number);
        benchmark::DoNotOptimize(sent);
    }
    items.close();
}
void channel_item(benchmark::State& state) { kevring::run(send_items(state)); }
BENCHMARK(channel_item)->UseRealTime()->MeasureProcessCPUTime();

void strand_item(benchmark::State& state) {
    asio::thread_pool pool(1);
    const auto strand = asio::make_strand(pool);
    std::counting_semaphore<> places{capacity};
    int number = 0;
    for (auto _ : state) {
        places.acquire();
        asio::post(strand, [&places, item = ++number] {
            benchmark::DoNotOptimize(item);
            places.release();
        });
    }
    pool.join();
}
BENCHMARK(strand_item)->UseRealTime()->MeasureProcessCPUTime();

#ifdef KEVRING_HAS_MOODYCAMEL
void moodycamel_item(benchmark::State& state) {
    moodycamel::BlockingConcurrentQueue<int> items(capacity);
    moodycamel::LightweightSemaphore places(capacity);
    std::jthread consumer([&] {
        while (true) {
            int item = 0;
            items.wait_dequeue(item);
            if (item == 0) return;
            benchmark::DoNotOptimize(item);
            places.signal();
        }
    });
    int number = 0;
    for (auto _ : state) {
        while (!places.wait()) {}
        items.enqueue(++number);
    }
    items.enqueue(0);
}
BENCHMARK(moodycamel_item)->UseRealTime()->MeasureProcessCPUTime();
#endif

void mutex_and_condition_item(benchmark::State& state) {
    std::mutex mutex;
    std::condition_variable filled;
    std::condition_variable emptied;
    std::deque<int> items;
    std::jthread consumer([&] {
        while (true) {
            std::unique_lock lock(mutex);
            filled.wait(lock, [&] { return !items.empty(); });
            const int item = items.front();
            items.pop_front();
            lock.unlock();
            emptied.notify_one();
            if (item == 0) return;
            benchmark::DoNotOptimize(item);
        }
    });
    const auto send = [&](int item) {
        {
            std::unique_lock lock(mutex);
            emptied.wait(lock, [&] { return items.size() < capacity; });
            items.push_back(item);
        }
        filled.notify_one();
    };
    int number = 0;
    for (auto _ : state) send(++number);
    send(0);
}
BENCHMARK(mutex_and_condition_item)->UseRealTime()->MeasureProcessCPUTime();

// A critical section that the other thread enters all the time.

task<void> lock_until(kevring::cross_loop::mutex& mutex, const std::atomic<bool>& done,
                      std::uint64_t& total) {
    while (!done.load(std::memory_order_relaxed)) {
        const auto guard = co_await mutex.lock();
        ++total;
    }
}
task<void> lock_often(benchmark::State& state) {
    kevring::cross_loop::mutex mutex;
    std::uint64_t total = 0;
    std::atomic<bool> done{false};
    std::jthread other([&] { kevring::run(lock_until(mutex, done, total)); });
    for (auto _ : state) {
        const auto guard = co_await mutex.lock();
        ++total;
    }
    done = true;
}
void contended_mutex(benchmark::State& state) { kevring::run(lock_often(state)); }
BENCHMARK(contended_mutex)->UseRealTime()->MeasureProcessCPUTime();

void contended_std_mutex(benchmark::State& state) {
    std::mutex mutex;
    std::uint64_t total = 0;
    std::atomic<bool> done{false};
    std::jthread other([&] {
        while (!done.load(std::memory_order_relaxed)) {
            const std::lock_guard guard(mutex);
            benchmark::DoNotOptimize(++total);
        }
    });
    for (auto _ : state) {
        const std::lock_guard guard(mutex);
        benchmark::DoNotOptimize(++total);
    }
    done = true;
}
BENCHMARK(contended_std_mutex)->UseRealTime()->MeasureProcessCPUTime();

// The section is a function of the strand; each caller waits for its end.
void contended_strand(benchmark::State& state) {
    asio::thread_pool pool(1);
    const auto strand = asio::make_strand(pool);
    std::uint64_t total = 0;
    const auto enter = [&] {
        std::binary_semaphore ended{0};
        asio::post(strand, [&] {
            benchmark::DoNotOptimize(++total);
            ended.release();
        });
        ended.acquire();
    };
    std::atomic<bool> done{false};
    std::jthread other([&] {
        while (!done.load(std::memory_order_relaxed)) enter();
    });
    for (auto _ : state) enter();
    done = true;
    other.join();
    pool.join();
}
BENCHMARK(contended_strand)->UseRealTime()->MeasureProcessCPUTime();

// A connection to the other loop and back.

task<kevring::detached_socket> turn_round(kevring::detached_socket connection) {
    kevring::socket here(*ring::current(), std::move(connection));
    auto detached = co_await here.detach();
    co_return kevring::value_or_throw(std::move(detached), "detach");
}
task<void> hand_over_often(ring& target, benchmark::State& state) {
    ring& loop = *ring::current();
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) co_return;
    const kevring::fd peer(ends[1]);
    std::optional<kevring::socket> connection;
    connection.emplace(loop, kevring::fd(ends[0]));
    for (auto _ : state) {
        auto leaving = co_await connection->detach();
        auto pending = kevring::submit(
            target, turn_round(kevring::value_or_throw(std::move(leaving), "detach")));
        kevring::detached_socket back = co_await pending.join();
        connection.emplace(loop, std::move(back));
    }
}
void hand_over_round_trip(benchmark::State& state) {
    other_loop other;
    kevring::run(hand_over_often(other.loop(), state));
}
BENCHMARK(hand_over_round_trip)->UseRealTime()->MeasureProcessCPUTime();

void asio_hand_over_round_trip(benchmark::State& state) {
    using local_socket = asio::local::stream_protocol::socket;
    const asio::local::stream_protocol protocol;
    other_io_context other;
    asio::io_context context(1);
    const auto work = asio::make_work_guard(context);
    local_socket left(context);
    local_socket right(context);
    asio::local::connect_pair(left, right);
    bool returned = false;
    for (auto _ : state) {
        returned = false;
        const int leaving = left.release();
        asio::post(other.context(), [&, leaving] {
            local_socket there(other.context());
            there.assign(protocol, leaving);
            const int back = there.release();
            asio::post(context, [&, back] {
                left.assign(protocol, back);
                returned = true;
            });
        });
        while (!returned) context.run_one();
    }
}
BENCHMARK(asio_hand_over_round_trip)->UseRealTime()->MeasureProcessCPUTime();

}  // namespace

BENCHMARK_MAIN();
