#include "bench/load/load_run.hpp"

#include <atomic>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <exception>
#include <latch>
#include <memory>
#include <semaphore>
#include <thread>

namespace kevring::bench {

namespace {

using namespace std::chrono_literals;

volatile std::sig_atomic_t interrupted = 0;

// The CPU time of a whole process, its ended threads and the kernel's io_uring workers included:
// what /proc/PID/stat says in hundredths of a second, in nanoseconds.
std::chrono::nanoseconds cpu_time(clockid_t clock) {
    timespec time{};
    if (clock_gettime(clock, &time) != 0) return 0ns;
    return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

std::chrono::nanoseconds cpu_time(const std::vector<int>& pids) {
    std::chrono::nanoseconds sum{0};
    for (const int pid : pids) {
        clockid_t clock{};
        if (clock_getcpuclockid(pid, &clock) == 0) sum += cpu_time(clock);
    }
    return sum;
}

// The bytes in the sockets of all connections to the port, at both ends, as far as they are on this
// machine: those that were sent, and that the program at the other end has not received.
std::int64_t queued_bytes(std::uint16_t port) {
    std::FILE* file = std::fopen("/proc/self/net/tcp", "r");
    if (file == nullptr) return 0;
    std::int64_t sum = 0;
    char line[256];
    while (std::fgets(line, sizeof line, file) != nullptr) {
        unsigned local = 0;
        unsigned peer = 0;
        unsigned unsent = 0;
        unsigned unread = 0;
        if (std::sscanf(line, " %*u: %*x:%x %*x:%x %*x %x:%x", &local, &peer, &unsent, &unread) !=
            4)
            continue;
        if (local == port && peer != 0) sum += unread;
        if (peer == port) sum += unsent;
    }
    std::fclose(file);
    return sum;
}

class load_run {
public:
    load_run(const load_options& options, const std::vector<load_target>& targets)
        : options_(options), started_(options.threads) {
        if (options.requests > 0) control_.requests_left = options.requests;
        for (unsigned i = 0; i < options.threads; ++i)
            threads_.emplace_back([this, &targets, i] { work(targets, i); });
    }

    load_report finish() {
        started_.wait();
        load_report made;
        const bool warm_up = options_.warm_up > 0ns;
        if (warm_up) {
            go_.release(options_.threads);
            wait_until(load_worker::clock::now() + options_.warm_up);
        }
        control_.measuring = true;
        made.begin = take();
        if (!warm_up) go_.release(options_.threads);
        wait_until(made.begin.time + options_.duration);
        if (options_.requests == 0) control_.measuring = false;
        made.end = take();
        control_.stopping = true;
        for (std::thread& each : threads_) each.join();
        // With a count, the responses in flight belong to it.
        if (options_.requests > 0) made.end = take();

        for (const auto& worker : workers_) {
            made.latency.add(worker->latency());
            made.errors.add(worker->errors());
            made.reopened += worker->reopened();
            made.opened += worker->opened();
            made.enters += worker->enter_count();
            made.all_responses += worker->responses();
        }
        return made;
    }

private:
    void work(const std::vector<load_target>& targets, unsigned index) {
        try {
            // The ring belongs to the thread that makes it.
            workers_[index] = std::make_unique<load_worker>(options_, targets, control_, index);
        } catch (const std::exception& failure) {
            std::fprintf(stderr, "kevring-load: %s\n", failure.what());
            std::_Exit(1);
        }
        load_worker& mine = *workers_[index];
        started_.count_down();
        go_.acquire();
        mine.run();
        ++ended_;
    }

    void wait_until(load_worker::clock::time_point when) {
        while (interrupted == 0 && ended_.load() < options_.threads &&
               control_.requests_left.load() > 0) {
            const auto left = when - load_worker::clock::now();
            if (left <= 0ns) return;
            // In steps, because a signal handler that asks for the end cannot wake a condition
            // variable. The step is no part of a figure: the clock is read at both ends.
            const auto step = options_.requests > 0 ? 1ms : 20ms;
            std::this_thread::sleep_for(std::min<std::chrono::nanoseconds>(left, step));
        }
    }

    load_snapshot take() const {
        load_snapshot now;
        now.time = load_worker::clock::now();
        for (const auto& worker : workers_) {
            now.responses += worker->responses();
            now.bytes += worker->bytes();
            now.aborts += worker->aborts();
        }
        if (options_.mode == load_mode::sink) now.queued_bytes = queued_bytes(options_.port);
        now.server_cpu = cpu_time(options_.server_pids);
        now.own_cpu = cpu_time(CLOCK_PROCESS_CPUTIME_ID);
        return now;
    }

    const load_options& options_;
    load_control control_;
    std::latch started_;
    std::atomic<unsigned> ended_{0};
    std::counting_semaphore<> go_{0};
    std::vector<std::unique_ptr<load_worker>> workers_{options_.threads};
    std::vector<std::thread> threads_;
};

}  // namespace

load_report run_load(const load_options& options, const std::vector<load_target>& targets) {
    return load_run(options, targets).finish();
}

void interrupt_load() noexcept { interrupted = 1; }

}  // namespace kevring::bench
