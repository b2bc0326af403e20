// bench/kevent/two_threads.cpp: cost of an event for two threads that share a queue.
//
// One thread writes, two collect and read. Each descriptor is written again only after it was read,
// so that no event coalesces. Baseline: two threads in epoll_wait() with EPOLLET | EPOLLONESHOT,
// which re-arm by EPOLL_CTL_MOD: what a program has to do so that two threads never handle one
// descriptor at the same time. The queue does without: an edge is reported to one waiter. The
// figures to quote are events a second with bursts (target: at least 1.3 of epoll) and CPU time of
// the process with one event on the way (target: at most 1.5). kevent_async is a queue with
// KEVENT_INIT_ASYNC, whose consumers claim from its ring; its counter driver_us is the CPU time of
// the library's thread for each event, which the others do not have. cpu_wait_us is the time for each
// event that the threads of the process were runnable and had no core: where it is as long as the
// event takes, the figure is that of the machine's other work.
#include <kevring/kevent/kevent.h>

#include <benchmark/benchmark.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

namespace {

constexpr unsigned batch = 32;
constexpr std::size_t descriptor_count = 1000;

void must(bool done, const char* what) {
    if (done) return;
    std::perror(what);
    std::exit(1);
}

struct counter {
    int number = -1;
    alignas(64) std::atomic<bool> written{false};
};

class epoll_collector {
public:
    explicit epoll_collector(const std::vector<std::unique_ptr<counter>>& from) : from_(from) {
        for (std::size_t i = 0; i < from.size(); ++i) control(EPOLL_CTL_ADD, i);
    }
    ~epoll_collector() { ::close(set_); }

    template <class Take>
    void collect(Take take) {
        epoll_event events[batch];
        const int got = ::epoll_wait(set_, events, batch, 10);
        for (int k = 0; k < got; ++k) {
            take(events[k].data.u32);
            control(EPOLL_CTL_MOD, events[k].data.u32);
        }
    }

private:
    void control(int operation, std::size_t i) {
        epoll_event event{};
        event.events = EPOLLIN | EPOLLET | EPOLLONESHOT;
        event.data.u32 = static_cast<std::uint32_t>(i);
        must(::epoll_ctl(set_, operation, from_[i]->number, &event) == 0, "epoll_ctl");
    }

    const std::vector<std::unique_ptr<counter>>& from_;
    int set_ = ::epoll_create1(EPOLL_CLOEXEC);
};

class kevent_collector {
public:
    explicit kevent_collector(const std::vector<std::unique_ptr<counter>>& from) {
        for (std::size_t i = 0; i < from.size(); ++i) {
            ukevent one{};
            one.id.raw[0] = static_cast<std::uint32_t>(from[i]->number);
            one.type = KEVENT_POLL;
            one.event = KEVENT_POLL_POLLIN;
            one.req_flags = KEVENT_REQ_ET;
            one.user[0] = static_cast<std::uint32_t>(i);
            must(kevent_ctl(queue_, KEVENT_CTL_ADD, 1, &one) == 0, "kevent_ctl");
        }
    }
    ~kevent_collector() { ::close(queue_); }

    template <class Take>
    void collect(Take take) {
        ukevent events[batch];
        const int got = kevent_get_events(queue_, 1, batch, {0, 10'000'000}, events, 0);
        for (int k = 0; k < got; ++k) take(events[k].user[0]);
    }

private:
    int queue_ = kevent_init(nullptr, 0, 0);
};

// Consumers share a position in the ring; see kevent_init(3).
class async_collector {
public:
    explicit async_collector(const std::vector<std::unique_ptr<counter>>& from)
        : memory_(1 + slots * 5),
          ring_(reinterpret_cast<kevent_ring*>(memory_.data())),
          queue_(kevent_init(ring_, slots, KEVENT_INIT_ASYNC)) {
        must(queue_ >= 0, "kevent_init");
        for (std::size_t i = 0; i < from.size(); ++i) {
            ukevent one{};
            one.id.raw[0] = static_cast<std::uint32_t>(from[i]->number);
            one.type = KEVENT_POLL;
            one.event = KEVENT_POLL_POLLIN;
            one.user[0] = static_cast<std::uint32_t>(i);
            must(kevent_ctl(queue_, KEVENT_CTL_ADD, 1, &one) == 0, "kevent_ctl");
        }
    }
    ~async_collector() { kevent_close(queue_); }

    template <class Take>
    void collect(Take take) {
        std::uint64_t first = claimed_.load(std::memory_order_acquire);
        std::uint32_t users[batch];
        unsigned count = 0;
        do {
            const unsigned end = __atomic_load_n(&ring_->ring_kidx, __ATOMIC_ACQUIRE);
            const auto begin = static_cast<unsigned>(first % slots);
            const unsigned filled = (end + slots - begin) % slots;
            count = filled < batch ? filled : batch;
            if (count == 0) {
                kevent_wait(queue_, slots, begin, {0, 10'000'000}, 0);
                return;
            }
            for (unsigned i = 0; i < count; ++i)
                users[i] =
                    __atomic_load_n(&ring_->event[(begin + i) % slots].user[0], __ATOMIC_RELAXED);
        } while (!claimed_.compare_exchange_weak(first, first + count));
        const std::uint64_t end = first + count;
        kevent_commit(queue_, static_cast<unsigned>(end % slots),
                      static_cast<unsigned>(end / slots));
        for (unsigned i = 0; i < count; ++i) take(users[i]);
    }

private:
    static constexpr unsigned slots = 2048;

    std::vector<std::uint64_t> memory_;
    kevent_ring* ring_;
    int queue_;
    alignas(64) std::atomic<std::uint64_t> claimed_{0};
};

// CPU time of the library's driver thread in nanoseconds; 0 if there is none.
std::uint64_t driver_cpu_ns() {
    std::uint64_t total_ns = 0;
    for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
        std::string name;
        std::getline(std::ifstream(task.path() / "comm") >> std::ws, name);
        std::uint64_t cpu_ns = 0;
        if (name == "kevring-driver" && std::ifstream(task.path() / "schedstat") >> cpu_ns)
            total_ns += cpu_ns;
    }
    return total_ns;
}

// Time that the threads of the process were runnable and waited for a core, in nanoseconds.
std::uint64_t cpu_wait_ns() {
    std::uint64_t total_ns = 0;
    for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
        std::uint64_t cpu_ns = 0;
        std::uint64_t wait_ns = 0;
        if (std::ifstream(task.path() / "schedstat") >> cpu_ns >> wait_ns) total_ns += wait_ns;
    }
    return total_ns;
}

template <class Collector>
void share(benchmark::State& state) {
    const auto on_the_way = static_cast<std::size_t>(state.range(0));
    std::vector<std::unique_ptr<counter>> all;
    for (std::size_t i = 0; i < descriptor_count; ++i) {
        all.push_back(std::make_unique<counter>());
        all.back()->number = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        must(all.back()->number >= 0, "eventfd");
    }
    {
        Collector collector(all);
        alignas(64) std::atomic<std::uint64_t> taken{0};
        std::atomic<bool> stop{false};
        std::atomic<std::uint64_t> empty_reads{0};
        const auto work = [&] {
            while (!stop.load(std::memory_order_relaxed)) {
                collector.collect([&](std::size_t i) {
                    std::uint64_t value = 0;
                    if (::read(all[i]->number, &value, sizeof value) != sizeof value) ++empty_reads;
                    all[i]->written.store(false, std::memory_order_release);
                    taken.fetch_add(1, std::memory_order_relaxed);
                });
            }
        };
        std::thread first(work);
        std::thread second(work);

        std::uint64_t sent = 0;
        std::size_t next = 0;
        const std::uint64_t one = 1;
        const std::uint64_t driver_before_ns = driver_cpu_ns();
        const std::uint64_t wait_before_ns = cpu_wait_ns();
        for (auto _ : state) {
            for (std::size_t k = 0; k < on_the_way; ++k) {
                next = (next + 389) % descriptor_count;
                while (all[next]->written.exchange(true, std::memory_order_acquire))
                    std::this_thread::yield();
                must(::write(all[next]->number, &one, sizeof one) == sizeof one, "write");
                ++sent;
            }
            while (sent - taken.load(std::memory_order_relaxed) >= on_the_way)
                std::this_thread::yield();
        }
        while (taken.load() < sent) std::this_thread::yield();
        const auto us_per_event = [&](std::uint64_t total_ns) {
            return static_cast<double>(total_ns) / 1000 / static_cast<double>(sent);
        };
        if (sent != 0) {
            state.counters["driver_us"] = us_per_event(driver_cpu_ns() - driver_before_ns);
            state.counters["cpu_wait_us"] = us_per_event(cpu_wait_ns() - wait_before_ns);
        }
        stop = true;
        first.join();
        second.join();
        must(taken.load() == sent && empty_reads.load() == 0, "an event was lost or doubled");
        state.SetItemsProcessed(static_cast<std::int64_t>(sent));
    }
    for (const auto& one : all) ::close(one->number);
}

void loads(benchmark::internal::Benchmark* one) {
    one->ArgName("on_the_way")->Arg(1)->Arg(8)->Arg(32)->MeasureProcessCPUTime()->UseRealTime();
}

}  // namespace

BENCHMARK(share<epoll_collector>)->Name("epoll_oneshot")->Apply(loads);
BENCHMARK(share<kevent_collector>)->Name("kevent_events")->Apply(loads);
BENCHMARK(share<async_collector>)->Name("kevent_async")->Apply(loads);

BENCHMARK_MAIN();
