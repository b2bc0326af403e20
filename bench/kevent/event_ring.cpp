// bench/kevent/event_ring.cpp: cost of an event from thread to thread.
//
// Question    CPU time of all threads for each 40-byte event, through a queue of 4096, in batches
//             as a kevent queue hands them over, and singly. The figure to quote is the ratio to
//             the best of the others; the goal is 1 or less with batches.
// Baselines   In the same process, in turn with event_ring, on the same threads: moodycamel's
//             ConcurrentQueue with its tokens, its bulk calls and its memory allocated before;
//             boost::lockfree::queue of fixed size, which knows no batches; std::deque under
//             std::mutex, which moves a batch under one lock. A library that is not installed is
//             left out, and the output names it.
// Method      One iteration runs every candidate once. Each event is checked off by its number.
//             A thread that finds no event, or no room, yields. Counters are medians over the
//             iterations: ns of CPU for each event, and event_ring's ratio to each of the others.
#include <kevring/kevent/event_ring.hpp>

#include <benchmark/benchmark.h>

#if __has_include(<concurrentqueue/concurrentqueue.h>)
#include <concurrentqueue/concurrentqueue.h>
#define KEVRING_HAS_MOODYCAMEL 1
#elif __has_include(<concurrentqueue/moodycamel/concurrentqueue.h>)
#include <concurrentqueue/moodycamel/concurrentqueue.h>
#define KEVRING_HAS_MOODYCAMEL 1
#endif
#if __has_include(<boost/lockfree/queue.hpp>)
#include <boost/lockfree/queue.hpp>
#define KEVRING_HAS_BOOST_LOCKFREE 1
#endif

#include <algorithm>
#include <atomic>
#include <barrier>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include <time.h>

#if defined(KEVRING_HAS_MOODYCAMEL) && !defined(__clang__)
// g++ 12 takes a null that moodycamel never reads for a place that it writes to.
#pragma GCC diagnostic ignored "-Wstringop-overflow"
#endif

namespace {

constexpr std::size_t capacity = 4096;
constexpr std::size_t batch_max = 64;

// A contestant has a producer and a consumer of which each thread makes its own, with put() and
// get(), which move as many as they can at once.

class ring_candidate {
public:
    static constexpr const char* name = "event_ring";
    struct producer {
        explicit producer(ring_candidate& loop) : ring(loop.ring_) {}
        std::size_t put(std::span<const ukevent> events) { return ring.publish(events); }
        kevring::event_ring& ring;
    };
    struct consumer {
        explicit consumer(ring_candidate& loop) : ring(loop.ring_) {}
        std::size_t get(std::span<ukevent> target) { return ring.take(target); }
        kevring::event_ring& ring;
    };

private:
    kevring::event_ring ring_{capacity};
};

#ifdef KEVRING_HAS_MOODYCAMEL
class moodycamel_candidate {
public:
    static constexpr const char* name = "moodycamel";
    struct producer {
        explicit producer(moodycamel_candidate& loop) : queue(loop.queue_), token(queue) {
            // A producer keeps its blocks. So that none keeps them all, each has its share first.
            const std::vector<ukevent> share(capacity / 2);
            std::vector<ukevent> back(share.size());
            queue.enqueue_bulk(token, share.data(), share.size());
            std::size_t count = 0;
            while (count < back.size()) {
                count += queue.try_dequeue_bulk_from_producer(token, back.data(), back.size());
            }
        }
        std::size_t put(std::span<const ukevent> events) {
            return queue.try_enqueue_bulk(token, events.data(), events.size()) ? events.size() : 0;
        }
        moodycamel::ConcurrentQueue<ukevent>& queue;
        moodycamel::ProducerToken token;
    };
    struct consumer {
        explicit consumer(moodycamel_candidate& loop) : queue(loop.queue_), token(queue) {}
        std::size_t get(std::span<ukevent> target) {
            return queue.try_dequeue_bulk(token, target.data(), target.size());
        }
        moodycamel::ConcurrentQueue<ukevent>& queue;
        moodycamel::ConsumerToken token;
    };

private:
    moodycamel::ConcurrentQueue<ukevent> queue_{capacity, 2, 0};
};
#endif

#ifdef KEVRING_HAS_BOOST_LOCKFREE
class boost_candidate {
public:
    static constexpr const char* name = "boost_lockfree";
    struct producer {
        explicit producer(boost_candidate& loop) : queue(loop.queue_) {}
        std::size_t put(std::span<const ukevent> events) {
            std::size_t count = 0;
            while (count < events.size() && queue.bounded_push(events[count])) ++count;
            return count;
        }
        boost::lockfree::queue<ukevent>& queue;
    };
    struct consumer {
        explicit consumer(boost_candidate& loop) : queue(loop.queue_) {}
        std::size_t get(std::span<ukevent> target) {
            std::size_t count = 0;
            while (count < target.size() && queue.pop(target[count])) ++count;
            return count;
        }
        boost::lockfree::queue<ukevent>& queue;
    };

private:
    boost::lockfree::queue<ukevent> queue_{capacity};
};
#endif

class mutex_candidate {
public:
    static constexpr const char* name = "mutex_deque";
    struct producer {
        explicit producer(mutex_candidate& queue) : loop(queue) {}
        std::size_t put(std::span<const ukevent> events) {
            const std::lock_guard lock(loop.mutex_);
            const std::size_t count = std::min(events.size(), capacity - loop.queue_.size());
            loop.queue_.insert(loop.queue_.end(), events.begin(), events.begin() + count);
            return count;
        }
        mutex_candidate& loop;
    };
    struct consumer {
        explicit consumer(mutex_candidate& queue) : loop(queue) {}
        std::size_t get(std::span<ukevent> target) {
            const std::lock_guard lock(loop.mutex_);
            const std::size_t count = std::min(target.size(), loop.queue_.size());
            std::copy_n(loop.queue_.begin(), count, target.begin());
            loop.queue_.erase(loop.queue_.begin(),
                              loop.queue_.begin() + static_cast<std::ptrdiff_t>(count));
            return count;
        }
        mutex_candidate& loop;
    };

private:
    std::mutex mutex_;
    std::deque<ukevent> queue_;
};

double thread_cpu_ns() {
    timespec now{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
}

struct workload {
    std::size_t pair_count;  // producers, and as many consumers
    std::size_t batch;
    std::uint64_t events_per_producer;
};

// Nanoseconds of CPU for each event; less than 0 if events were lost or doubled.
template <class Contestant>
double run(const workload& work) {
    Contestant queue;
    std::barrier start(static_cast<std::ptrdiff_t>(2 * work.pair_count));
    const std::uint64_t total = work.events_per_producer * work.pair_count;
    std::atomic<std::uint64_t> received{0};
    std::atomic<std::uint64_t> number_sum{0};
    std::vector<double> cpu_ns(2 * work.pair_count);
    {
        std::vector<std::jthread> threads;
        for (std::size_t i = 0; i < work.pair_count; ++i) {
            threads.emplace_back([&, i] {
                typename Contestant::producer producer(queue);
                std::vector<ukevent> batch(work.batch);
                start.arrive_and_wait();
                const double before_ns = thread_cpu_ns();
                std::uint64_t number = 0;
                while (number < work.events_per_producer) {
                    for (std::size_t k = 0; k < batch.size(); ++k) {
                        batch[k].id.raw_u64 = number + k;
                        batch[k].user_u64 = number;
                    }
                    std::size_t done = 0;
                    while (done < batch.size()) {
                        const std::size_t count = producer.put(std::span(batch).subspan(done));
                        if (count == 0) std::this_thread::yield();
                        done += count;
                    }
                    number += batch.size();
                }
                cpu_ns[i] = thread_cpu_ns() - before_ns;
            });
            threads.emplace_back([&, i] {
                typename Contestant::consumer consumer(queue);
                std::vector<ukevent> target(work.batch);
                std::uint64_t sum = 0;
                start.arrive_and_wait();
                const double before_ns = thread_cpu_ns();
                while (received.load(std::memory_order_relaxed) < total) {
                    const std::size_t count = consumer.get(target);
                    if (count == 0) {
                        std::this_thread::yield();
                        continue;
                    }
                    for (std::size_t k = 0; k < count; ++k) sum += target[k].id.raw_u64;
                    received.fetch_add(count, std::memory_order_relaxed);
                }
                cpu_ns[work.pair_count + i] = thread_cpu_ns() - before_ns;
                number_sum += sum;
            });
        }
    }
    const std::uint64_t each = work.events_per_producer;
    if (received != total || number_sum != work.pair_count * (each * (each - 1) / 2)) return -1;
    double sum_ns = 0;
    for (const double one : cpu_ns) sum_ns += one;
    return sum_ns / static_cast<double>(total);
}

double median(std::vector<double> values) {
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    return *middle;
}

struct candidate {
    const char* name;
    double (*run)(const workload&);
};

constexpr candidate contestants[] = {
    {ring_candidate::name, run<ring_candidate>},
#ifdef KEVRING_HAS_MOODYCAMEL
    {moodycamel_candidate::name, run<moodycamel_candidate>},
#endif
#ifdef KEVRING_HAS_BOOST_LOCKFREE
    {boost_candidate::name, run<boost_candidate>},
#endif
    {mutex_candidate::name, run<mutex_candidate>},
};

void hand_over(benchmark::State& state) {
    const auto pair_count = static_cast<std::size_t>(state.range(0));
    const auto batch = static_cast<std::size_t>(state.range(1));
    // A multiple of every batch size.
    const workload work{pair_count, batch, batch_max * (batch == 1 ? 1'000 : 4'000) / pair_count};
    std::vector<std::vector<double>> ns(std::size(contestants));

    for (auto _ : state) {
        for (std::size_t i = 0; i < std::size(contestants); ++i) {
            const double per_event_ns = contestants[i].run(work);
            if (per_event_ns < 0) {
                state.SkipWithError("events were lost or doubled");
                return;
            }
            ns[i].push_back(per_event_ns);
        }
        state.SetIterationTime(ns[0].back() * static_cast<double>(pair_count) *
                               static_cast<double>(work.events_per_producer) / 1e9);
    }

    for (std::size_t i = 0; i < std::size(contestants); ++i) {
        const std::string name = contestants[i].name;
        state.counters[name + "_ns"] = median(ns[i]);
        if (i == 0) continue;
        std::vector<double> ratios;
        for (std::size_t k = 0; k < ns[i].size(); ++k) ratios.push_back(ns[0][k] / ns[i][k]);
        state.counters["to_" + name] = median(ratios);
    }
}

BENCHMARK(hand_over)
    ->ArgNames({"pairs", "batch"})
    ->Args({1, 64})
    ->Args({1, 16})
    ->Args({2, 64})
    ->Args({2, 16})
    ->Args({1, 1})
    ->Args({2, 1})
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace

int main(int argc, char* argv[]) {
#ifndef KEVRING_HAS_MOODYCAMEL
    std::fprintf(stderr, "left out: moodycamel::ConcurrentQueue (libconcurrentqueue-dev)\n");
#endif
#ifndef KEVRING_HAS_BOOST_LOCKFREE
    std::fprintf(stderr, "left out: boost::lockfree::queue (libboost-dev)\n");
#endif
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
    benchmark::RunSpecifiedBenchmarks();
}
