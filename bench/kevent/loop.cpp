// bench/kevent/loop.cpp: cost of an event for a loop that awaits it.
//
// The workload of one_thread.cpp, awaited on a loop: a burst of eventfds or pipes becomes ready, and
// the loop reads each. `queue` awaits one event_queue; the baseline `streams` awaits one poll_stream
// for each descriptor in a task of its own. The figure to quote is the ratio of CPU time, queue to
// streams (target: at most 1.03). `enters` is the number of io_uring_enter() calls for an event;
// neither makes another call, beyond the read and the write.
#include <kevring/kevent/event_queue.hpp>
#include <kevring/runtime/operations/poll.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/run.hpp>
#include <kevring/runtime/task_scope.hpp>

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

using kevring::event;
using kevring::event_queue;
using kevring::fd_ref;
using kevring::ring;
using kevring::task;

namespace {

constexpr unsigned batch = 64;

void must(bool done, const char* what) {
    if (done) return;
    std::perror(what);
    std::exit(1);
}

enum class file_kind : std::uint8_t { counter, pipe };

class files {
public:
    files(file_kind kind, std::size_t count) : readers_(count), writers_(count) {
        for (std::size_t i = 0; i < count; ++i) {
            int ends[2];
            if (kind == file_kind::pipe) {
                must(::pipe2(ends, O_NONBLOCK | O_CLOEXEC) == 0, "pipe2");
            } else {
                ends[0] = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
                must(ends[0] >= 0, "eventfd");
                ends[1] = ends[0];
            }
            readers_[i] = ends[0];
            writers_[i] = ends[1];
        }
    }
    files(const files&) = delete;
    ~files() {
        for (std::size_t i = 0; i < readers_.size(); ++i) {
            if (writers_[i] != readers_[i]) ::close(writers_[i]);
            ::close(readers_[i]);
        }
    }

    std::size_t size() const { return readers_.size(); }
    fd_ref operator[](std::size_t i) const { return fd_ref(readers_[i]); }

    // Makes the next `count` ready; strides, so that neighbours do not follow each other.
    void make_ready(std::size_t count) {
        const std::uint64_t one = 1;
        for (std::size_t i = 0; i < count; ++i) {
            next_ = (next_ + 389) % writers_.size();
            must(::write(writers_[next_], &one, sizeof one) == sizeof one, "write");
        }
    }
    void take(std::size_t i) const {
        std::uint64_t value = 0;
        must(::read(readers_[i], &value, sizeof value) == sizeof value, "read");
        benchmark::DoNotOptimize(value);
    }

private:
    std::vector<int> readers_;
    std::vector<int> writers_;
    std::size_t next_ = 0;
};

// Counts the events of a burst; the loop runs until all have come.
class progress {
public:
    void begin(std::size_t count) {
        left_ = count;
        is_done_ = count == 0;
    }
    void add(std::size_t count) {
        left_ -= count;
        is_done_ = left_ == 0;
    }
    const bool& is_done() const { return is_done_; }

private:
    std::size_t left_ = 0;
    bool is_done_ = false;
};

task<void> end(kevring::task_scope& tasks) {
    tasks.request_stop();
    co_await tasks.join();
}

class queue_contestant {
public:
    queue_contestant(ring& loop, const files& all, progress& so_far) : queue_(loop), tasks_(loop) {
        for (std::size_t i = 0; i < all.size(); ++i)
            must(queue_.add(kevring::readable(all[i]), i).has_value(), "event_queue::add");
        tasks_.spawn(collect(queue_, all, so_far));
    }
    kevring::task_scope& tasks() { return tasks_; }

private:
    static task<void> collect(event_queue& queue, const files& all, progress& so_far) {
        while (true) {
            const auto got = co_await queue.wait(1, batch);
            if (!got) co_return;
            for (const event& one : *got) all.take(one.user_data<std::size_t>());
            so_far.add(got->size());
        }
    }

    event_queue queue_;
    kevring::task_scope tasks_;
};

class stream_contestant {
public:
    stream_contestant(ring& loop, const files& all, progress& so_far) : tasks_(loop) {
        for (std::size_t i = 0; i < all.size(); ++i) tasks_.spawn(collect(loop, all, i, so_far));
    }
    kevring::task_scope& tasks() { return tasks_; }

private:
    static task<void> collect(ring& loop, const files& all, std::size_t index, progress& so_far) {
        kevring::poll_stream stream(loop, all[index], POLLIN);
        while (true) {
            const auto got = co_await stream.next();
            if (!got) co_return;
            all.take(index);
            so_far.add(1);
        }
    }

    kevring::task_scope tasks_;
};

template <class Contestant, file_kind kind>
void collect_bursts(benchmark::State& state) {
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);

    files all(kind, std::min(static_cast<std::size_t>(state.range(0)),
                             static_cast<std::size_t>(limit.rlim_cur - 100) / 4));
    const auto burst = static_cast<std::size_t>(state.range(1));
    ring loop(kevring::ring_options{.completion_entries = 32768});
    loop.run_once(false);  // the tasks await at once, and need a loop that this thread drives
    progress so_far;
    {
        Contestant contestant(loop, all, so_far);
        so_far.begin(1);  // all requests are armed before the measurement
        all.make_ready(1);
        loop.run_until(so_far.is_done());
        const std::uint64_t enters_before = loop.counters().enters;
        for (auto _ : state) {
            so_far.begin(burst);
            all.make_ready(burst);
            loop.run_until(so_far.is_done());
        }
        const auto events = static_cast<double>(state.iterations() * state.range(1));
        state.counters["enters"] =
            static_cast<double>(loop.counters().enters - enters_before) / events;
        kevring::run(loop, end(contestant.tasks()));
    }
    state.SetItemsProcessed(state.iterations() * state.range(1));
}

void bursts(benchmark::internal::Benchmark* one) {
    one->ArgNames({"descriptors", "burst"})->Args({1000, 1})->Args({1000, 32})->Args({1000, 512});
}

}  // namespace

BENCHMARK(collect_bursts<stream_contestant, file_kind::counter>)
    ->Name("streams_eventfd")
    ->Apply(bursts);
BENCHMARK(collect_bursts<queue_contestant, file_kind::counter>)
    ->Name("queue_eventfd")
    ->Apply(bursts);
BENCHMARK(collect_bursts<stream_contestant, file_kind::pipe>)->Name("streams_pipe")->Apply(bursts);
BENCHMARK(collect_bursts<queue_contestant, file_kind::pipe>)->Name("queue_pipe")->Apply(bursts);

BENCHMARK_MAIN();
