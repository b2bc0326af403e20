// bench/kevent/ports.cpp: the CPU time and the delay of one event on each port.
//
// Many descriptors, bursts of them become ready by one byte or count each, and one thread collects
// and reads them. All candidates run in this process, their repetitions interleaved; the figures are
// medians of CPU time for each event, as ratios to two hand-written baselines: an edge-triggered
// epoll loop, and multishot polls on a DEFER_TASKRUN ring. A queue of the C interface compares its
// descriptor with its file in each call, and polls a batch with last checks once more. Both baselines
// are therefore also run with these calls, with two checks for kevent_wait() and kevent_commit(), and
// for MODIFY. `calls` counts system calls for each event, with write
// and read, under ptrace(2). Latency is from the write of one event to its collection by a thread
// that sleeps. `modify` is a loop that arms each descriptor again after its event: a one-shot in an
// epoll set by EPOLL_CTL_MOD, and MODIFY of each batch.
//
// New ports add a candidate to `candidates`.
#include <kevring/kevent/kevent.h>

#include <liburing.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

namespace {

constexpr unsigned batch = 64;

void must(bool done, const char* what) {
    if (done) return;
    std::perror(what);
    std::exit(1);
}

std::int64_t now_ns(clockid_t clock) {
    timespec now{};
    ::clock_gettime(clock, &now);
    return now.tv_sec * std::int64_t{1'000'000'000} + now.tv_nsec;
}

enum class kind : std::uint8_t { eventfd, pipe, socket };

/// Descriptors to be watched, each with an end that makes it ready.
class descriptors {
public:
    descriptors(kind type, std::size_t count) : ends_(count) {
        for (auto& end : ends_) {
            if (type == kind::eventfd) {
                end[0] = end[1] = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
                must(end[0] >= 0, "eventfd");
            } else if (type == kind::pipe) {
                must(::pipe2(end.data(), O_NONBLOCK | O_CLOEXEC) == 0, "pipe2");
            } else {
                must(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0,
                                  end.data()) == 0,
                     "socketpair");
            }
        }
    }
    descriptors(const descriptors&) = delete;
    ~descriptors() {
        for (const auto& end : ends_) {
            ::close(end[0]);
            if (end[1] != end[0]) ::close(end[1]);
        }
    }
    std::size_t size() const { return ends_.size(); }
    int operator[](std::size_t i) const { return ends_[i][0]; }
    // Strides, so that neighbours do not follow each other.
    void make_ready(std::size_t count) {
        const std::uint64_t one = 1;
        for (std::size_t i = 0; i < count; ++i) {
            next_ = (next_ + 389) % ends_.size();
            must(::write(ends_[next_][1], &one, sizeof one) == sizeof one, "write");
        }
    }
    void take(std::size_t i) const {
        std::uint64_t value = 0;
        must(::read(ends_[i][0], &value, sizeof value) == sizeof value, "read");
    }

private:
    std::vector<std::array<int, 2>> ends_;
    std::size_t next_ = 0;
};

/// Collects and reads `count` events that are pending or will come.
class candidate {
public:
    virtual ~candidate() = default;
    virtual void collect(std::size_t count) = 0;
};

// The check of a queue in each call: see kevent/detail/control_identity.hpp.
class identity {
public:
    void check() const {
        epoll_event unused{};
        ::epoll_ctl(own_, EPOLL_CTL_MOD, number_, &unused);
    }
    ~identity() {
        ::close(own_);
        ::close(number_);
    }

private:
    int own_ = ::epoll_create1(EPOLL_CLOEXEC);
    int number_ = ::fcntl(own_, F_DUPFD_CLOEXEC, 3);
};

template <unsigned check_count, bool modifies>
class epoll_loop final : public candidate {
public:
    explicit epoll_loop(const descriptors& source) : source_(source) {
        for (std::size_t i = 0; i < source.size(); ++i) control(EPOLL_CTL_ADD, i);
    }
    ~epoll_loop() override { ::close(set_); }
    void collect(std::size_t count) override {
        while (count != 0) {
            for (unsigned i = 0; i < check_count; ++i) identity_.check();
            std::array<epoll_event, batch> events;
            const int found = ::epoll_wait(set_, events.data(), batch, -1);
            must(found > 0, "epoll_wait");
            for (int k = 0; k < found; ++k) {
                const std::size_t i = events[static_cast<std::size_t>(k)].data.u32;
                source_.take(i);
                if (modifies) control(EPOLL_CTL_MOD, i);
            }
            count -= static_cast<std::size_t>(found);
        }
    }

private:
    void control(int operation, std::size_t i) const {
        epoll_event event{};
        event.events = EPOLLIN | (modifies ? std::uint32_t{EPOLLONESHOT} : std::uint32_t{EPOLLET});
        event.data.u32 = static_cast<std::uint32_t>(i);
        must(::epoll_ctl(set_, operation, source_[i], &event) == 0, "epoll_ctl");
    }

    const descriptors& source_;
    const int set_ = ::epoll_create1(EPOLL_CLOEXEC);
    identity identity_;
};

template <unsigned check_count, bool polls>
class ring_loop final : public candidate {
public:
    explicit ring_loop(const descriptors& source) : source_(source) {
        io_uring_params params{};
        params.flags =
            IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE;
        params.cq_entries = 32768;
        must(io_uring_queue_init_params(256, &ring_, &params) == 0, "io_uring_queue_init");
        io_uring_register_ring_fd(&ring_);
        for (std::size_t i = 0; i < source.size(); ++i) {
            io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
            if (sqe == nullptr) {
                io_uring_submit(&ring_);
                sqe = io_uring_get_sqe(&ring_);
            }
            io_uring_prep_poll_multishot(sqe, source[i], POLLIN);
            io_uring_sqe_set_data64(sqe, i);
        }
        io_uring_submit(&ring_);
    }
    ~ring_loop() override { io_uring_queue_exit(&ring_); }
    void collect(std::size_t count) override {
        while (count != 0) {
            for (unsigned i = 0; i < check_count; ++i) identity_.check();
            must(io_uring_submit_and_wait(&ring_, 1) >= 0, "io_uring_submit_and_wait");
            std::array<io_uring_cqe*, batch> found;
            const unsigned size = io_uring_peek_batch_cqe(&ring_, found.data(), batch);
            if (polls) {
                std::array<pollfd, batch> again;
                for (unsigned k = 0; k < size; ++k)
                    again[k] = {source_[io_uring_cqe_get_data64(found[k])], POLLIN, 0};
                must(::poll(again.data(), size, 0) == static_cast<int>(size), "poll");
            }
            for (unsigned k = 0; k < size; ++k) source_.take(io_uring_cqe_get_data64(found[k]));
            io_uring_cq_advance(&ring_, size);
            count -= size;
        }
    }

private:
    const descriptors& source_;
    io_uring ring_{};
    identity identity_;
};

enum class collection : std::uint8_t { by_call, by_ring, with_modify };

/// A queue of the C interface. by_ring: by kevent_wait() and kevent_commit().
template <collection how>
class queue_loop final : public candidate {
public:
    queue_loop(const descriptors& source, kind type, unsigned flags)
        : source_(source),
          memory_(1 + slots * 5),
          queue_(kevent_init(uses_ring ? ring() : nullptr, uses_ring ? slots : 0, flags)) {
        must(queue_ >= 0, "kevent_init");
        for (std::size_t i = 0; i < source.size(); ++i) {
            ukevent one{};
            one.id.raw[0] = static_cast<std::uint32_t>(source[i]);
            one.type = type == kind::eventfd ? KEVENT_POLL
                       : type == kind::pipe  ? KEVENT_PIPE
                                             : KEVENT_SOCKET;
            one.event = type == kind::eventfd ? std::uint32_t{KEVENT_POLL_POLLIN}
                                              : std::uint32_t{KEVENT_SOCKET_RECV};
            one.user[0] = static_cast<std::uint32_t>(i);
            must(kevent_ctl(queue_, KEVENT_CTL_ADD, 1, &one) == 0, "kevent_ctl");
        }
    }
    ~queue_loop() override { kevent_close(queue_); }
    void collect(std::size_t count) override {
        while (count != 0) count -= uses_ring ? collect_from_ring() : collect_by_call();
    }

private:
    static constexpr unsigned slots = 256;
    static constexpr bool uses_ring = how == collection::by_ring;

    kevent_ring* ring() { return reinterpret_cast<kevent_ring*>(memory_.data()); }
    std::size_t collect_by_call() {
        std::array<ukevent, batch> events;
        const int found = kevent_get_events(queue_, 1, batch, {-1, 0}, events.data(), 0);
        must(found > 0, "kevent_get_events");
        for (int k = 0; k < found; ++k) source_.take(events[static_cast<std::size_t>(k)].user[0]);
        if (how == collection::with_modify)
            must(kevent_ctl(queue_, KEVENT_CTL_MODIFY, static_cast<unsigned>(found),
                            events.data()) == 0,
                 "kevent_ctl");
        return static_cast<std::size_t>(found);
    }
    std::size_t collect_from_ring() {
        int found = 0;
        while (found == 0) found = kevent_wait(queue_, batch, uidx_, {-1, 0}, 0);
        must(found > 0, "kevent_wait");
        for (int k = 0; k < found; ++k) {
            source_.take(ring()->event[uidx_].user[0]);
            if (++uidx_ == slots) {
                uidx_ = 0;
                ++over_;
            }
        }
        must(kevent_commit(queue_, uidx_, over_) == found, "kevent_commit");
        return static_cast<std::size_t>(found);
    }

    const descriptors& source_;
    std::vector<std::uint64_t> memory_;
    const int queue_;
    unsigned uidx_ = 0;
    unsigned over_ = 0;
};

struct named_candidate {
    const char* name;
    bool has_thread;  // its thread makes system calls of all dearer: not interleaved with others
    std::function<std::unique_ptr<candidate>(const descriptors&, kind)> make;
};

template <class Loop>
std::unique_ptr<candidate> make_baseline(const descriptors& source, kind) {
    return std::make_unique<Loop>(source);
}
template <collection how, unsigned flags>
std::unique_ptr<candidate> make_queue(const descriptors& source, kind type) {
    return std::make_unique<queue_loop<how>>(source, type, flags | KEVENT_INIT_NO_THREAD);
}

const std::vector<named_candidate> candidates{
    {"epoll", false, make_baseline<epoll_loop<0, false>>},
    {"epoll, identity", false, make_baseline<epoll_loop<1, false>>},
    {"ring", false, make_baseline<ring_loop<0, false>>},
    {"ring, identity", false, make_baseline<ring_loop<1, false>>},
    {"epoll, two identities", false, make_baseline<epoll_loop<2, false>>},
    {"ring, two identities", false, make_baseline<ring_loop<2, false>>},
    {"ring, identity, poll", false, make_baseline<ring_loop<1, true>>},
    {"epoll_port, get_events", false, make_queue<collection::by_call, 0>},
    {"epoll_port, wait", false, make_queue<collection::by_ring, 0>},
    {"ring_port, get_events", false, make_queue<collection::by_call, KEVENT_INIT_ONE_THREAD>},
    {"ring_port, wait", false, make_queue<collection::by_ring, KEVENT_INIT_ONE_THREAD>},
    {"driver_port, wait", true, make_queue<collection::by_ring, KEVENT_INIT_ASYNC>},
    {"modify: epoll", false, make_baseline<epoll_loop<0, true>>},
    {"modify: epoll, two ident.", false, make_baseline<epoll_loop<2, true>>},
    {"modify: epoll_port", false, make_queue<collection::with_modify, 0>},
    {"modify: ring_port", false, make_queue<collection::with_modify, KEVENT_INIT_ONE_THREAD>},
};
constexpr std::size_t modify_baseline = 12;

struct load {
    std::size_t descriptor_count;
    std::size_t burst;
};

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

double cpu_ns_per_event(candidate& measured, descriptors& source, std::size_t burst,
                        std::size_t event_count) {
    const std::size_t rounds = std::max<std::size_t>(1, event_count / burst);
    const std::int64_t begin = now_ns(CLOCK_PROCESS_CPUTIME_ID);
    for (std::size_t i = 0; i < rounds; ++i) {
        source.make_ready(burst);
        measured.collect(burst);
    }
    return static_cast<double>(now_ns(CLOCK_PROCESS_CPUTIME_ID) - begin) /
           static_cast<double>(rounds * burst);
}

// System calls of the thread that collects, for each event; below 0: not allowed here.
double calls_per_event(const named_candidate& counted, kind type, std::size_t burst) {
    const std::size_t rounds = std::clamp<std::size_t>(1500 / burst, 3, 20);
    const pid_t child = ::fork();
    if (child == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // a benchmark that was cut off leaves no stopped child
        ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
        descriptors source(type, 1000);
        {
            const auto measured = counted.make(source, type);
            source.make_ready(burst);
            measured->collect(burst);
            ::raise(SIGSTOP);
            for (std::size_t i = 0; i < rounds; ++i) {
                source.make_ready(burst);
                measured->collect(burst);
            }
            ::raise(SIGSTOP);
        }
        ::_exit(0);
    }
    int status = 0;
    unsigned stops = 0;
    unsigned signals = 0;
    int request = PTRACE_CONT;
    while (::waitpid(child, &status, 0) == child && WIFSTOPPED(status) && signals < 2) {
        if (WSTOPSIG(status) == SIGSTOP) {
            ++signals;
            request = PTRACE_SYSCALL;
            if (signals == 2) break;
        } else {
            ++stops;
        }
        if (::ptrace(static_cast<__ptrace_request>(request), child, nullptr, nullptr) != 0) break;
    }
    ::kill(child, SIGKILL);
    ::waitpid(child, &status, 0);
    // raise() makes three calls of its own: they are less than one event in all.
    if (signals < 2) return -1;
    return static_cast<double>(stops / 2) / static_cast<double>(rounds * burst);
}

void compare(kind type, const char* type_name, const std::vector<load>& loads, unsigned repetitions,
             std::size_t event_count) {
    for (const load& one : loads) {
        std::printf("\n%s, %zu descriptors, bursts of %zu\n", type_name, one.descriptor_count,
                    one.burst);
        std::vector<std::vector<double>> times(candidates.size());
        for (const bool threads : {false, true}) {
            for (unsigned i = 0; i < repetitions; ++i) {
                for (std::size_t c = 0; c < candidates.size(); ++c) {
                    if (candidates[c].has_thread != threads) continue;
                    descriptors source(type, one.descriptor_count);
                    const auto measured = candidates[c].make(source, type);
                    cpu_ns_per_event(*measured, source, one.burst, event_count / 10);
                    times[c].push_back(cpu_ns_per_event(*measured, source, one.burst, event_count));
                }
            }
        }
        const double epoll_ns = median(times[0]);
        const double checked_ns = median(times[1]);
        const double ring_ns = median(times[3]);
        std::printf("%-26s %8s %8s %12s %12s %8s\n", "", "ns", "/ epoll", "/ epoll,id.",
                    "/ ring,id.", "calls");
        for (std::size_t c = 0; c < candidates.size(); ++c) {
            const double cpu_ns = median(times[c]);
            if (c == modify_baseline) std::printf("%-26s %8s %8s\n", "", "ns", "/ modify");
            if (c >= modify_baseline) {
                std::printf("%-26s %8.0f %8.2f %34.2f\n", candidates[c].name, cpu_ns,
                            cpu_ns / median(times[modify_baseline]),
                            calls_per_event(candidates[c], type, one.burst));
                continue;
            }
            std::printf("%-26s %8.0f %8.2f %12.2f %12.2f %8.2f\n", candidates[c].name, cpu_ns,
                        cpu_ns / epoll_ns, cpu_ns / checked_ns, cpu_ns / ring_ns,
                        calls_per_event(candidates[c], type, one.burst));
        }
        std::fflush(stdout);
    }
}

void measure_latency(unsigned event_count) {
    std::printf("\nlatency with one event in flight, us\n%-26s %8s %8s\n", "", "p50", "p99");
    for (const named_candidate& measured : candidates) {
        descriptors source(kind::eventfd, 1);
        std::vector<std::int64_t> delays(event_count);
        std::atomic<std::int64_t> written{0};
        std::atomic<unsigned> collected{0};
        std::thread collector([&] {
            const auto loop = measured.make(source, kind::eventfd);  // rings belong to this thread
            ++collected;
            for (std::int64_t& delay : delays) {
                loop->collect(1);
                delay = now_ns(CLOCK_MONOTONIC) - written;
                ++collected;
            }
        });
        for (unsigned i = 0; i < event_count; ++i) {
            while (collected <= i) std::this_thread::yield();
            const timespec pause{0, 100'000};  // the collector sleeps by then
            ::nanosleep(&pause, nullptr);
            written = now_ns(CLOCK_MONOTONIC);
            source.make_ready(1);
        }
        collector.join();
        std::sort(delays.begin(), delays.end());
        std::printf("%-26s %8.1f %8.1f\n", measured.name,
                    static_cast<double>(delays[event_count / 2]) / 1000,
                    static_cast<double>(delays[event_count * 99 / 100]) / 1000);
    }
}

}  // namespace

// Arguments: --quick, or --once (one repetition of 4000 events; scripts/bench interleaves its own rounds), and the parts
// to run: pipes, sockets, eventfds, latency. Without a part, all run.
int main(int count, char** arguments) {
    std::vector<std::string> parts(arguments + 1, arguments + count);
    const bool quick = std::erase(parts, "--quick") > 0;
    const bool once = std::erase(parts, "--once") > 0;
    const auto is_wanted = [&](const char* part) {
        return parts.empty() || std::find(parts.begin(), parts.end(), part) != parts.end();
    };
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
    const unsigned repetitions = quick || once ? 1 : 7;
    const std::size_t event_count = quick ? 200 : once ? 4'000 : 20'000;

    std::vector<load> loads{{1000, 1}, {1000, 32}, {1000, 512}};
    if (is_wanted("pipes")) compare(kind::pipe, "pipes", loads, repetitions, event_count);
    if (is_wanted("sockets")) compare(kind::socket, "sockets", loads, repetitions, event_count);
    // A registration holds a descriptor of its own.
    if (limit.rlim_cur > 20'100) loads.push_back({10'000, 512});
    if (is_wanted("eventfds")) compare(kind::eventfd, "eventfds", loads, repetitions, event_count);
    if (is_wanted("latency")) measure_latency(quick ? 20 : 1000);
}
