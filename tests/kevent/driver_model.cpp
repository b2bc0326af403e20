// driver_model.cpp: producers, consumers that start and end, forks and closes, on queues of each port
// of the C interface. Every event is delivered once, and those of one registration in order.
//
// KEVRING_STRESS_EVENTS: how many events; 20 000 by default.
#include "tests/kevent/kevent_fixture.hpp"
#include "tests/kevent/ring_consumers.hpp"

#include <array>
#include <atomic>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include <sys/eventfd.h>

using namespace kevent_test;

namespace {

constexpr unsigned note_count = 6;
constexpr unsigned counter_count = 6;

/// How a queue is made and used.
struct use {
    unsigned init_flags = 0;
    unsigned slot_count = 0;
    unsigned consumer_count = 3;  // at a time
    bool by_calls = true;         // consumers use kevent_get_events()
    bool is_controlled = true;    // another thread adds, changes and removes registrations
};

std::uint64_t event_count() {
    const char* const given = std::getenv("KEVRING_STRESS_EVENTS");
    return given == nullptr ? 20'000 : std::strtoull(given, nullptr, 10);
}

class random_numbers {
public:
    explicit random_numbers(std::uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u + 1) {}
    unsigned below(unsigned end) {
        state_ ^= state_ << 13;
        state_ ^= state_ >> 7;
        state_ ^= state_ << 17;
        return static_cast<unsigned>(state_ % end);
    }

private:
    std::uint64_t state_;
};

/// One queue from kevent_init() to its close: user events that are counted by READY, eventfds that
/// are counted by what is read of them, and one timer, whose expiries have times.
class round_of_events {
public:
    round_of_events(std::uint64_t seed, const use& how)
        : seed_(seed),
          how_(how),
          queue_(how.slot_count, how.init_flags),
          consumers_(queue_, how.slot_count) {
        // By a thread that ends: a queue of one thread belongs to the thread that makes the first call.
        std::thread([this] { add_registrations(); }).join();
    }
    ~round_of_events() { kevent_close(queue_.number()); }

    /// Makes `count` events and returns when all of them have been consumed, or at the deadline.
    void run(std::uint64_t count) {
        std::vector<std::thread> consumers;
        for (unsigned i = 0; i < how_.consumer_count; ++i)
            consumers.emplace_back([this, i] { consume_in_generations(seed_ + i); });
        std::thread controller([this] { change_registrations(); });
        produce(count);
        const auto end = now() + half_of_test_timeout;
        while (!is_complete() && now() < end) std::this_thread::yield();
        CHECK(is_complete());
        ended_ = true;
        for (unsigned i = 0; i < how_.consumer_count; ++i) queue_.release();
        for (auto& consumer : consumers) consumer.join();
        controller.join();
        if (!how_.by_calls) CHECK(consumers_.freed_count() == consumers_.taken_count());
        CHECK_FALSE(timer_went_back_);
    }
    std::uint64_t produced() const { return fired_ + written_; }

private:
    void add_registrations() {
        for (std::uint64_t id = 0; id < note_count; ++id) queue_.add(user_event(id));
        for (auto& counter : counters_) {
            counter.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
            ukevent watched = record(KEVENT_POLL, counter.number(), KEVENT_POLL_POLLIN);
            watched.user[0] = static_cast<std::uint32_t>(&counter - counters_.data());
            queue_.add(watched);
        }
        timer_.id.raw[1] = 300'000;
        queue_.add(timer_);
    }
    bool is_complete() const { return noted_ == fired_ && read_ == written_; }

    void produce(std::uint64_t count) {
        random_numbers random(seed_);
        for (std::uint64_t i = 0; i < count; ++i) {
            if (random.below(2) == 0) {
                fired_ += static_cast<unsigned>(queue_.ready(user_event(random.below(note_count))));
            } else {
                const std::uint64_t one = 1;
                const int counter = counters_[random.below(counter_count)].number();
                KEVRING_ASSERT(::write(counter, &one, 8) == 8,
                               "test setup: a full eventfd; run fewer events");
                ++written_;
            }
            if (random.below(64) == 0) std::this_thread::yield();
        }
    }

    // A thread ends between two records, and another one replaces it.
    void consume_in_generations(std::uint64_t seed) {
        random_numbers random(seed);
        while (!ended_) {
            const unsigned batch_count = 1 + random.below(200);
            std::thread([this, batch_count, seed] { consume(batch_count, seed); }).join();
        }
    }

    void consume(unsigned batch_count, std::uint64_t seed) {
        random_numbers random(seed ^ batch_count);
        std::array<ukevent, 8> records;
        for (unsigned i = 0; i < batch_count && !ended_; ++i) {
            unsigned count = 0;
            std::uint64_t position = 0;
            if (how_.by_calls) {
                const int taken = kevent_get_events(queue_.number(), 1, 1 + random.below(8),
                                                    milliseconds(20), records.data(), 0);
                count = static_cast<unsigned>(std::max(taken, 0));
            } else {
                const taken_records taken =
                    consumers_.take(std::span(records).first(1 + random.below(8)));
                count = taken.count;
                position = taken.first;
                if (count == 0) queue_.wait(8, consumers_.slot(), milliseconds(20));
            }
            for (unsigned j = 0; j < count; ++j) consume_one(records[j], position + j);
        }
    }

    void consume_one(const ukevent& event, std::uint64_t position) {
        if (event.type == KEVENT_UNOTIFY) noted_ += event.ret_data[1];
        if (event.type == KEVENT_POLL) {
            std::uint64_t value = 0;
            if (::read(counters_[event.user[0]].number(), &value, 8) == 8) read_ += value;
        }
        if (event.type == KEVENT_TIMER && !how_.by_calls) {
            const std::lock_guard held(timer_mutex_);
            // Consumers may reach this line in another order than that of the ring.
            if ((position < timer_position_) != (event.ret_data[0] < timer_ms_) &&
                event.ret_data[0] != timer_ms_ && timer_position_ != 0)
                timer_went_back_ = true;
            timer_position_ = position;
            timer_ms_ = event.ret_data[0];
        }
    }

    // Registrations that are added and removed, changes, and children that use and leave the queue.
    void change_registrations() {
        random_numbers random(seed_ + 99);
        const auto pipe = connected_pair::pipe();
        bool has_forked = false;
        while (!ended_) {
            if (how_.is_controlled) {
                ukevent one = record(KEVENT_PIPE, pipe.local(), KEVENT_SOCKET_RECV,
                                     random.below(2) == 0 ? KEVENT_REQ_ALWAYS_QUEUE : 0);
                kevent_ctl(queue_.number(), KEVENT_CTL_ADD, 1, &one);
                pipe.send_from_peer();
                if (random.below(2) == 0) kevent_ctl(queue_.number(), KEVENT_CTL_MODIFY, 1, &one);
                kevent_ctl(queue_.number(), KEVENT_CTL_REMOVE, 1, &one);
                pipe.drain_local();
            }
            if (!has_forked && random.below(8) == 0) {
                has_forked = true;
                const pid_t child = ::fork();
                if (child == 0) ::_exit(queue_.wait(8, 0, no_wait) == -EINVAL ? 0 : 1);
                int status = 0;
                KEVRING_ASSERT(::waitpid(child, &status, 0) == child && status == 0,
                               "a child could use the queue of its parent; see forks.cpp");
            }
            std::this_thread::yield();
        }
    }

    const std::uint64_t seed_;
    const use how_;
    queue queue_;
    ring_consumers consumers_;
    std::array<kevring::fd, counter_count> counters_;
    ukevent timer_ = record(KEVENT_TIMER, 0, KEVENT_TIMER_FIRED);
    std::atomic<std::uint64_t> fired_{0};
    std::atomic<std::uint64_t> written_{0};
    std::atomic<std::uint64_t> noted_{0};
    std::atomic<std::uint64_t> read_{0};
    std::atomic<bool> ended_{false};
    std::mutex timer_mutex_;
    std::uint64_t timer_position_ = 0;
    std::uint32_t timer_ms_ = 0;
    std::atomic<bool> timer_went_back_{false};
};

/// Runs a queue of each size with a share of all events.
void run_rounds(use how) {
    const std::uint64_t total = event_count();
    std::uint64_t produced = 0;
    constexpr std::array<unsigned, 4> slot_counts{2, 5, 64, 1024};
    for (unsigned i = 0; i < slot_counts.size(); ++i) {
        how.slot_count = slot_counts[i];
        CAPTURE(how.slot_count, how.by_calls);
        round_of_events round(i + 1, how);
        // A ring of two slots that a driver fills holds one record at a time: slow, on purpose.
        const bool is_slow = how.slot_count == 2 && (how.init_flags & KEVENT_INIT_ASYNC) != 0;
        round.run(is_slow ? total / 40 : total / 3);
        produced += round.produced();
    }
    CHECK(produced >= total * 9 / 10);
}

}  // namespace

TEST_CASE("consumers of a driven queue lose, double and reorder nothing",
          "[kevent][driver_port][stress][threads][K-085][K-086][K-126]") {
    use how;
    how.init_flags = KEVENT_INIT_ASYNC;
    how.by_calls = GENERATE(false, true);
    run_rounds(how);
}

TEST_CASE("threads that share a queue, and end, lose, double and reorder nothing",
          "[kevent][many-threads][stress][threads][K-124][K-126]") {
    run_rounds(use());
}

TEST_CASE("a queue of one thread passes on to the next thread when that ends, and loses nothing",
          "[kevent][ring_port][stress][threads]") {
    use how;
    how.init_flags = KEVENT_INIT_ONE_THREAD;
    how.consumer_count = 1;
    how.is_controlled = false;
    run_rounds(how);
}
