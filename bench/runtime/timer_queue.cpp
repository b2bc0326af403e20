// bench/runtime/timer_queue.cpp: CPU time of a timer while 100 000 others are active.
//
// Most timers of a server are timeouts that never expire: armed with a request, disarmed with its
// response. So the figure to quote is arm_and_disarm; its target is 30 ns. The baselines, in the same
// process and with the same timers, are the alternatives: std::multimap, which allocates, a binary
// heap whose timers store their index, as in Asio, and kernel timeouts.
#include <kevring/runtime/timer_queue.hpp>

#include <benchmark/benchmark.h>
#include <liburing.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#include <time.h>

namespace {

constexpr std::int64_t never_ns = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t millisecond = 1'000'000;
constexpr std::int64_t second = 1'000 * millisecond;
constexpr std::int64_t start = 86'400 * second;  // a machine that is up for a day
constexpr std::size_t fire_count_max = 1024;     // timers that the loop fires per iteration at most

// The action of all candidates when a timer fires: count it and, if configured, arm it again.
struct fire_policy {
    std::int64_t now_ns = start;
    std::int64_t again_after_ns = 0;  // 0: not at all
    std::int64_t fired_count = 0;
};

class wheel {
public:
    struct timer : kevring::timer_node {
        timer() : timer_node(fired) {}
        wheel* owner = nullptr;
    };
    static constexpr std::size_t bytes_per_timer = sizeof(kevring::timer_node);

    void arm(timer& one, std::int64_t deadline_ns) {
        one.owner = this;
        queue_.arm(one, deadline_ns);
    }
    void disarm(timer& one) { queue_.disarm(one); }
    void expire() { queue_.expire(policy.now_ns, fire_count_max); }
    std::int64_t next_deadline_ns() const { return queue_.next_deadline_ns(); }

    fire_policy policy;

private:
    static void fired(kevring::timer_node& node) noexcept {
        auto& self = static_cast<timer&>(node);
        fire_policy& policy = self.owner->policy;
        ++policy.fired_count;
        if (policy.again_after_ns != 0)
            self.owner->arm(self, policy.now_ns + policy.again_after_ns);
    }

    kevring::timer_queue queue_{start};
};

class multimap {
public:
    struct timer;
    using map = std::multimap<std::int64_t, timer*>;
    struct timer {
        map::iterator place;
    };
    // The colour and three pointers of a node, and its value.
    static constexpr std::size_t bytes_per_timer =
        sizeof(timer) + 4 * sizeof(void*) + sizeof(map::value_type);

    void arm(timer& one, std::int64_t deadline_ns) { one.place = map_.emplace(deadline_ns, &one); }
    void disarm(timer& one) { map_.erase(one.place); }
    void expire() {
        for (std::size_t count = 0; count < fire_count_max && next_deadline_ns() <= policy.now_ns;
             ++count) {
            timer& first = *map_.begin()->second;
            map_.erase(map_.begin());
            ++policy.fired_count;
            if (policy.again_after_ns != 0) arm(first, policy.now_ns + policy.again_after_ns);
        }
    }
    std::int64_t next_deadline_ns() const { return map_.empty() ? never_ns : map_.begin()->first; }

    fire_policy policy;

private:
    map map_;
};

class binary_heap {
public:
    struct timer {
        std::size_t index = 0;
    };
    struct entry {
        std::int64_t deadline_ns;
        timer* node;
    };
    static constexpr std::size_t bytes_per_timer = sizeof(timer) + sizeof(entry);

    void arm(timer& one, std::int64_t deadline_ns) {
        entries_.push_back({deadline_ns, &one});
        up(entries_.size() - 1);
    }
    void disarm(timer& one) {
        const std::size_t hole = one.index;
        const entry last = entries_.back();
        entries_.pop_back();
        if (hole == entries_.size()) return;
        put(hole, last);
        up(hole);
        down(last.node->index);
    }
    void expire() {
        for (std::size_t count = 0; count < fire_count_max && next_deadline_ns() <= policy.now_ns;
             ++count) {
            timer& first = *entries_.front().node;
            disarm(first);
            ++policy.fired_count;
            if (policy.again_after_ns != 0) arm(first, policy.now_ns + policy.again_after_ns);
        }
    }
    std::int64_t next_deadline_ns() const {
        return entries_.empty() ? never_ns : entries_.front().deadline_ns;
    }

    fire_policy policy;

private:
    void put(std::size_t index, entry what) {
        entries_[index] = what;
        what.node->index = index;
    }
    void up(std::size_t index) {
        const entry moving = entries_[index];
        for (; index > 0 && moving.deadline_ns < entries_[(index - 1) / 2].deadline_ns;
             index = (index - 1) / 2)
            put(index, entries_[(index - 1) / 2]);
        put(index, moving);
    }
    void down(std::size_t index) {
        const entry moving = entries_[index];
        for (std::size_t child; (child = 2 * index + 1) < entries_.size(); index = child) {
            if (child + 1 < entries_.size() &&
                entries_[child + 1].deadline_ns < entries_[child].deadline_ns)
                ++child;
            if (moving.deadline_ns <= entries_[child].deadline_ns) break;
            put(index, entries_[child]);
        }
        put(index, moving);
    }

    std::vector<entry> entries_;
};

// As many timers, armed in no order, with deadlines all over the next `width_ns`.
template <class Timers>
struct timer_batch {
    timer_batch(std::int64_t count, std::int64_t width_ns)
        : timers(static_cast<std::size_t>(count)), order(timers.size()) {
        std::iota(order.begin(), order.end(), std::size_t{0});
        std::shuffle(order.begin(), order.end(), std::mt19937_64(1));
        std::mt19937_64 random(2);
        for (const std::size_t each : order)
            queue.arm(timers[each],
                      start + 1 + static_cast<std::int64_t>(random() % std::uint64_t(width_ns)));
    }
    ~timer_batch() {
        if constexpr (requires { timers[0].armed(); })
            for (auto& each : timers) queue.disarm(each);
    }

    Timers queue;
    std::vector<typename Timers::timer> timers;
    std::vector<std::size_t> order;
};

// A timer that is armed for a request and disarmed by its answer; it is in the cache, the others
// are not. With `first` it comes before all others, as a short timeout among long ones does, else
// it is anywhere among them.
template <class Timers>
void arm_and_disarm(benchmark::State& state) {
    timer_batch<Timers> others(state.range(0), 30 * second);
    const bool first = state.range(1) != 0;
    typename Timers::timer one;
    std::int64_t delay_ns = 0;

    for (auto _ : state) {
        if (!first) delay_ns = (delay_ns + 7'919'000'019) % (30 * second);
        others.queue.arm(one, start + delay_ns);
        benchmark::ClobberMemory();
        others.queue.disarm(one);
    }

    state.counters["bytes_per_timer"] = Timers::bytes_per_timer;
}

// The same with IORING_OP_TIMEOUT, as cheap as it can be: both requests and both answers in one
// enter. The kernel looks for the timer to cancel in a list of all, and finds the newest last.
void arm_and_disarm_in_kernel(benchmark::State& state) {
    constexpr unsigned batch = 1024;
    io_uring ring;
    if (io_uring_queue_init(batch, &ring,
                            IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN) != 0) {
        state.SkipWithError("no io_uring, or one older than Linux 6.1");
        return;
    }
    __kernel_timespec hour{.tv_sec = 3'600, .tv_nsec = 0};
    for (std::int64_t i = 0; i < state.range(0); ++i) {
        io_uring_sqe* const sqe = io_uring_get_sqe(&ring);
        io_uring_prep_timeout(sqe, &hour, 0, 0);
        io_uring_sqe_set_data64(sqe, 0);
        if (io_uring_sq_space_left(&ring) == 0) io_uring_submit(&ring);
    }
    io_uring_submit(&ring);

    for (auto _ : state) {
        constexpr std::uint64_t one = 1;
        io_uring_sqe* const arm = io_uring_get_sqe(&ring);
        io_uring_prep_timeout(arm, &hour, 0, 0);
        io_uring_sqe_set_data64(arm, one);
        io_uring_sqe* const disarm = io_uring_get_sqe(&ring);
        io_uring_prep_timeout_remove(disarm, one, 0);
        io_uring_sqe_set_data64(disarm, 2);
        io_uring_submit_and_wait(&ring, 2);
        if (io_uring_cq_ready(&ring) != 2) {
            state.SkipWithError("the kernel has not cancelled the timeout");
            break;
        }
        io_uring_cq_advance(&ring, 2);
    }

    io_uring_queue_exit(&ring);
}

// Idle timeouts: every 10 us a message arrives on one of the connections and extends its timeout by
// 30 s. The time advances, and the loop expires due timers. Each timer is loaded from memory, not
// from the CPU caches.
template <class Timers>
void message_moves_idle_timeout(benchmark::State& state) {
    timer_batch<Timers> idle(state.range(0), 30 * second);
    idle.queue.policy.again_after_ns = 30 * second;
    std::size_t next = 0;
    std::int64_t expire_count = 0;

    for (auto _ : state) {
        auto& timer = idle.timers[idle.order[next]];
        next = next + 1 == idle.order.size() ? 0 : next + 1;
        std::int64_t& now_ns = idle.queue.policy.now_ns;
        now_ns += 10'000;
        idle.queue.disarm(timer);
        idle.queue.arm(timer, now_ns + 30 * second);
        if (idle.queue.next_deadline_ns() <= now_ns) {
            idle.queue.expire();
            ++expire_count;
        }
    }

    using benchmark::Counter;
    state.counters["expire_calls_per_message"] =
        Counter(static_cast<double>(expire_count), Counter::kAvgIterations);
    state.counters["fired_per_message"] =
        Counter(static_cast<double>(idle.queue.policy.fired_count), Counter::kAvgIterations);
}

// Sleeps: every timer fires, and is armed again for 0.3 ms to 10 s later. The loop sleeps exactly
// until next_deadline_ns(), the worst case for the number of its iterations. The time is per timer.
template <class Timers>
void arm_and_fire(benchmark::State& state) {
    timer_batch<Timers> sleepers(state.range(0), 10 * second);
    fire_policy& policy = sleepers.queue.policy;
    std::int64_t expire_count = 0;

    std::int64_t fired_before = 0;
    for (auto _ : state) {
        while (policy.fired_count == fired_before) {
            policy.now_ns = std::max(policy.now_ns, sleepers.queue.next_deadline_ns());
            policy.again_after_ns = 300'000 + policy.now_ns % 9'973 * 1'000'000;
            sleepers.queue.expire();
            ++expire_count;
        }
        ++fired_before;
    }

    using benchmark::Counter;
    state.counters["expire_calls_per_timer"] =
        Counter(static_cast<double>(expire_count), Counter::kAvgIterations);
}

// CPU time, so that other processes do not count.
std::int64_t thread_cpu_ns() {
    timespec now{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec * second + now.tv_nsec;
}

// All deadlines within one millisecond, 30 s away: the longest loop iteration. The time is for all
// timers.
template <class Timers>
void batch_expires(benchmark::State& state) {
    std::int64_t longest_ns = 0;
    std::int64_t expire_count = 0;

    for (auto _ : state) {
        state.PauseTiming();
        {
            timer_batch<Timers> all(state.range(0), millisecond);
            all.queue.policy.now_ns = start + second;
            state.ResumeTiming();
            while (all.queue.next_deadline_ns() != never_ns) {
                const std::int64_t before_ns = thread_cpu_ns();
                all.queue.expire();
                longest_ns = std::max(longest_ns, thread_cpu_ns() - before_ns);
                ++expire_count;
            }
            state.PauseTiming();
        }
        state.ResumeTiming();
    }

    state.SetItemsProcessed(state.iterations() * state.range(0));
    state.counters["longest_call_us"] = static_cast<double>(longest_ns) / 1e3;
    state.counters["expire_calls"] =
        benchmark::Counter(static_cast<double>(expire_count), benchmark::Counter::kAvgIterations);
}

void few_to_many(benchmark::internal::Benchmark* made) {
    made->ArgNames({"active", "first"})->ArgsProduct({{100, 100'000, 1'000'000}, {0, 1}});
}
void many(benchmark::internal::Benchmark* made) { made->ArgName("active")->Arg(100'000); }

BENCHMARK(arm_and_disarm<wheel>)->Apply(few_to_many);
BENCHMARK(arm_and_disarm<multimap>)->Apply(few_to_many);
BENCHMARK(arm_and_disarm<binary_heap>)->Apply(few_to_many);
BENCHMARK(arm_and_disarm_in_kernel)->ArgName("active")->Arg(100)->Arg(100'000);
BENCHMARK(message_moves_idle_timeout<wheel>)->Apply(many);
BENCHMARK(message_moves_idle_timeout<multimap>)->Apply(many);
BENCHMARK(message_moves_idle_timeout<binary_heap>)->Apply(many);
BENCHMARK(arm_and_fire<wheel>)->Apply(many);
BENCHMARK(arm_and_fire<multimap>)->Apply(many);
BENCHMARK(arm_and_fire<binary_heap>)->Apply(many);
BENCHMARK(batch_expires<wheel>)->Apply(many)->Unit(benchmark::kMillisecond);
BENCHMARK(batch_expires<multimap>)->Apply(many)->Unit(benchmark::kMillisecond);
BENCHMARK(batch_expires<binary_heap>)->Apply(many)->Unit(benchmark::kMillisecond);

}  // namespace

BENCHMARK_MAIN();
