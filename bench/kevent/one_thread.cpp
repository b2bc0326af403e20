// bench/kevent/one_thread.cpp: cost of an event for one thread that collects it.
//
// The workload of 2006: many descriptors, a burst of them becomes ready, one byte each (here the
// count of an eventfd), and one thread collects and reads. Writing and reading are part of the
// figure, for all alike. The figures to quote are ratios of CPU time: kevent to epoll_edge (target:
// at most 0.91, events a second 1.10), and kevent_modify to epoll_modify (target: at most 0.83).
// The queues make no thread (KEVENT_INIT_NO_THREAD): with one, the system calls of all would cost
// more. uring_poll is the liburing baseline: hand-written multishot polls on a ring of its own.
#include <kevring/kevent/kevent.h>

#include <benchmark/benchmark.h>
#include <liburing.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

namespace {

constexpr unsigned batch = 64;

void must(bool done, const char* what) {
    if (done) return;
    std::perror(what);
    std::exit(1);
}

class counters {
public:
    explicit counters(std::size_t count) : numbers_(count) {
        for (int& number : numbers_) {
            number = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
            must(number >= 0, "eventfd");
        }
    }
    counters(const counters&) = delete;
    ~counters() {
        for (const int number : numbers_) ::close(number);
    }

    std::size_t size() const { return numbers_.size(); }
    int operator[](std::size_t i) const { return numbers_[i]; }

    // Makes the next `count` ready; strides, so that neighbours do not follow each other.
    void make_ready(std::size_t count) {
        const std::uint64_t one = 1;
        for (std::size_t i = 0; i < count; ++i) {
            next_ = (next_ + 389) % numbers_.size();
            must(::write(numbers_[next_], &one, sizeof one) == sizeof one, "write");
        }
    }
    void take(std::size_t i) const {
        std::uint64_t value = 0;
        must(::read(numbers_[i], &value, sizeof value) == sizeof value, "read");
        benchmark::DoNotOptimize(value);
    }

private:
    std::vector<int> numbers_;
    std::size_t next_ = 0;
};

// Each contestant collects `count` events that are there, and reads each.

template <bool modifies>
class epoll_candidate {
public:
    explicit epoll_candidate(const counters& from)
        : from_(from), set_(::epoll_create1(EPOLL_CLOEXEC)) {
        for (std::size_t i = 0; i < from.size(); ++i) control(EPOLL_CTL_ADD, i);
    }
    ~epoll_candidate() { ::close(set_); }

    void collect(std::size_t count) {
        while (count != 0) {
            epoll_event events[batch];
            const int got = ::epoll_wait(set_, events, batch, -1);
            must(got > 0, "epoll_wait");
            for (int k = 0; k < got; ++k) {
                from_.take(events[k].data.u32);
                if (modifies) control(EPOLL_CTL_MOD, events[k].data.u32);
            }
            count -= static_cast<std::size_t>(got);
        }
    }

private:
    void control(int operation, std::size_t i) const {
        epoll_event event{};
        event.events = EPOLLIN | (modifies ? std::uint32_t{EPOLLONESHOT} : std::uint32_t{EPOLLET});
        event.data.u32 = static_cast<std::uint32_t>(i);
        must(::epoll_ctl(set_, operation, from_[i], &event) == 0, "epoll_ctl");
    }

    const counters& from_;
    int set_;
};

template <bool modifies>
class kevent_candidate {
public:
    explicit kevent_candidate(const counters& from)
        : from_(from), queue_(kevent_init(nullptr, 0, KEVENT_INIT_NO_THREAD)) {
        must(queue_ >= 0, "kevent_init");
        for (std::size_t i = 0; i < from.size(); ++i) {
            ukevent one{};
            one.id.raw[0] = static_cast<std::uint32_t>(from[i]);
            one.type = KEVENT_POLL;
            one.event = KEVENT_POLL_POLLIN;
            one.req_flags = KEVENT_REQ_ET;
            one.user[0] = static_cast<std::uint32_t>(i);
            const int answered = kevent_ctl(queue_, KEVENT_CTL_ADD, 1, &one);
            must(answered == 0, "kevent_ctl");
        }
    }
    ~kevent_candidate() {
        ::close(queue_);
        ::close(kevent_init(nullptr, 0,
                            KEVENT_INIT_NO_THREAD));  // drops the queue whose number it gets
    }

    void collect(std::size_t count) {
        while (count != 0) {
            ukevent events[batch];
            const int got = kevent_get_events(queue_, 1, batch, {-1, 0}, events, 0);
            must(got > 0, "kevent_get_events");
            for (int k = 0; k < got; ++k) from_.take(events[k].user[0]);
            if (modifies)
                must(kevent_ctl(queue_, KEVENT_CTL_MODIFY, static_cast<unsigned>(got), events) == 0,
                     "kevent_ctl");
            count -= static_cast<std::size_t>(got);
        }
    }

private:
    const counters& from_;
    int queue_;
};

class kevent_ring_candidate {
public:
    explicit kevent_ring_candidate(const counters& from)
        : from_(from),
          memory_(1 + slots * 5),
          ring_(reinterpret_cast<kevent_ring*>(memory_.data())),
          queue_(kevent_init(ring_, slots, KEVENT_INIT_NO_THREAD)) {
        must(queue_ >= 0, "kevent_init");
        for (std::size_t i = 0; i < from.size(); ++i) {
            ukevent one{};
            one.id.raw[0] = static_cast<std::uint32_t>(from[i]);
            one.type = KEVENT_POLL;
            one.event = KEVENT_POLL_POLLIN;
            one.req_flags = KEVENT_REQ_ET;
            one.user[0] = static_cast<std::uint32_t>(i);
            must(kevent_ctl(queue_, KEVENT_CTL_ADD, 1, &one) == 0, "kevent_ctl");
        }
    }
    ~kevent_ring_candidate() {
        ::close(queue_);
        ::close(kevent_init(nullptr, 0, KEVENT_INIT_NO_THREAD));
    }

    void collect(std::size_t count) {
        while (count != 0) {
            const int got = kevent_wait(queue_, batch, uidx_, {-1, 0}, 0);
            must(got > 0, "kevent_wait");
            for (int k = 0; k < got; ++k) {
                from_.take(ring_->event[uidx_].user[0]);
                if (++uidx_ == slots) {
                    uidx_ = 0;
                    ++over_;
                }
            }
            must(kevent_commit(queue_, uidx_, over_) == got, "kevent_commit");
            count -= static_cast<std::size_t>(got);
        }
    }

private:
    static constexpr unsigned slots = 256;

    const counters& from_;
    std::vector<std::uint64_t> memory_;
    kevent_ring* ring_;
    int queue_;
    unsigned uidx_ = 0;
    unsigned over_ = 0;
};

class uring_candidate {
public:
    explicit uring_candidate(const counters& from) : from_(from) {
        io_uring_params params{};
        params.flags =
            IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE;
        params.cq_entries = 32768;
        must(io_uring_queue_init_params(256, &ring_, &params) == 0, "io_uring_queue_init");
        io_uring_register_ring_fd(&ring_);
        for (std::size_t i = 0; i < from.size(); ++i) {
            io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
            if (sqe == nullptr) {
                io_uring_submit(&ring_);
                sqe = io_uring_get_sqe(&ring_);
            }
            io_uring_prep_poll_multishot(sqe, from[i], POLLIN);
            io_uring_sqe_set_data64(sqe, i);
        }
        io_uring_submit(&ring_);
    }
    ~uring_candidate() { io_uring_queue_exit(&ring_); }

    void collect(std::size_t count) {
        while (count != 0) {
            must(io_uring_submit_and_wait(&ring_, 1) >= 0, "io_uring_submit_and_wait");
            io_uring_cqe* got[batch];
            const unsigned found = io_uring_peek_batch_cqe(&ring_, got, batch);
            for (unsigned k = 0; k < found; ++k) from_.take(io_uring_cqe_get_data64(got[k]));
            io_uring_cq_advance(&ring_, found);
            count -= found;
        }
    }

private:
    const counters& from_;
    io_uring ring_{};
};

template <class Contestant>
void collect_bursts(benchmark::State& state) {
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);

    // A registration holds a descriptor of its own.
    counters all(std::min(static_cast<std::size_t>(state.range(0)),
                          static_cast<std::size_t>(limit.rlim_cur - 100) / 2));
    state.counters["descriptors"] = static_cast<double>(all.size());
    const auto burst = static_cast<std::size_t>(state.range(1));
    Contestant candidate(all);
    for (auto _ : state) {
        all.make_ready(burst);
        candidate.collect(burst);
    }
    state.SetItemsProcessed(state.iterations() * state.range(1));
}

void bursts(benchmark::internal::Benchmark* one) {
    one->ArgNames({"descriptors", "burst"})
        ->Args({1000, 1})
        ->Args({1000, 32})
        ->Args({1000, 512})
        ->Args({10'000, 512});
}

}  // namespace

BENCHMARK(collect_bursts<epoll_candidate<false>>)->Name("epoll_edge")->Apply(bursts);
BENCHMARK(collect_bursts<kevent_candidate<false>>)->Name("kevent_events")->Apply(bursts);
BENCHMARK(collect_bursts<kevent_ring_candidate>)->Name("kevent_ring")->Apply(bursts);
BENCHMARK(collect_bursts<uring_candidate>)->Name("uring_poll")->Apply(bursts);
BENCHMARK(collect_bursts<epoll_candidate<true>>)->Name("epoll_modify")->Apply(bursts);
BENCHMARK(collect_bursts<kevent_candidate<true>>)->Name("kevent_modify")->Apply(bursts);

BENCHMARK_MAIN();
