// event_ring_stress.cpp: many threads on one ring, and a checker that reads every event.
//
// Every event contains its publisher and its number. Consumers log by position, and no two share
// one, so the checker adds no ordering between threads. After each round it reads the whole log and
// verifies that each event is present once and in the order of its publisher.
//
// KEVRING_STRESS_EVENTS sets the number of events of each test, 10^6 if it is not set.
#include "tests/support/catch.hpp"

#include <kevring/kevent/detail/caller_ring.hpp>
#include <kevring/kevent/event_ring.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

using kevring::claimed_events;
using kevring::event_ring;
using kevring::detail::caller_ring;

namespace {

using clock = std::chrono::steady_clock;

std::uint64_t stress_events() {
    const char* const given = std::getenv("KEVRING_STRESS_EVENTS");
    return given == nullptr ? 1'000'000 : std::strtoull(given, nullptr, 10);
}

// The most that one round logs, so that memory does not grow with the number of events.
constexpr std::uint64_t round_events_max = 1'000'000;

// A small random generator, with another seed on each thread.
class rng {
public:
    explicit rng(std::uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u + 1) {}
    std::size_t up_to(std::size_t max) {  // 1 ... max
        state_ ^= state_ << 13;
        state_ ^= state_ >> 7;
        state_ ^= state_ << 17;
        return 1 + static_cast<std::size_t>(state_ % max);
    }

private:
    std::uint64_t state_;
};

ukevent stamped(std::uint32_t source, std::uint64_t number) {
    ukevent event{};
    event.id.raw_u64 = number;
    event.type = source;
    event.event = static_cast<std::uint32_t>(number) ^ source;
    event.req_flags = ~event.event;
    event.ret_flags = event.event * 3;
    event.ret_data[0] = event.event + 1;
    event.ret_data[1] = event.event + 2;
    event.user_u64 = ~number;
    return event;
}

// Whether all words of the record are of one event.
bool is_whole(const ukevent& event) {
    const ukevent wanted = stamped(event.type, event.id.raw_u64);
    return std::memcmp(&event, &wanted, sizeof(event)) == 0;
}

// The event found at each position.
class event_log {
public:
    explicit event_log(std::uint64_t count) : entries_(count) {}

    // No two threads have the same position: the test verifies it, and TSan reports a race.
    void add(std::uint64_t position, const ukevent& event) {
        if (position >= entries_.size()) {
            ++out_of_range_;
            return;
        }
        entry& entered = entries_[position];
        entered.source = event.type;
        entered.whole = is_whole(event);
        entered.number = event.id.raw_u64;
        ++entered.times;
    }

    // Empty if every event of every source is present once and in order, else the first error.
    std::string verdict(std::size_t source_count) const {
        if (out_of_range_ != 0) return "a position that nothing was published at";
        std::vector<std::uint64_t> next(source_count, 0);
        for (std::uint64_t position = 0; position < entries_.size(); ++position) {
            const entry& entered = entries_[position];
            const std::string where = " at position " + std::to_string(position);
            if (entered.times == 0) return "nothing" + where;
            if (entered.times > 1) return "two claims" + where;
            if (!entered.whole || entered.source >= source_count) return "a torn record" + where;
            if (entered.number != next[entered.source]) return "another event than was due" + where;
            ++next[entered.source];
        }
        return {};
    }

private:
    struct entry {
        std::uint64_t number = 0;
        std::uint32_t source = 0;
        std::uint16_t times = 0;
        bool whole = false;
    };
    std::vector<entry> entries_;
    std::atomic<std::uint64_t> out_of_range_{0};
};

struct shape {
    std::size_t producers;
    std::size_t consumers;
    std::size_t capacity;
    std::size_t batch_max;
    bool waits;           // in the kernel; otherwise it yields and tries again
    std::uint64_t share;  // percent of all events: threads that sleep at each event are slow
};

// Runs one round. Returns the error, or an empty string.
std::string run_round(const shape& shape, std::uint64_t event_count, std::uint64_t seed) {
    event_ring ring(shape.capacity);
    event_log log(event_count);
    std::atomic<std::uint64_t> freed{0};
    std::atomic<std::uint64_t> commit_errors{0};
    std::atomic<std::uint64_t> unpublished{0};
    const clock::time_point deadline = clock::now() + std::chrono::seconds(300);

    std::vector<std::thread> producers;
    for (std::size_t source = 0; source < shape.producers; ++source) {
        const std::uint64_t share =
            event_count / shape.producers + (source < event_count % shape.producers ? 1 : 0);
        producers.emplace_back([&, source, share] {
            rng rng(seed + source);
            std::vector<ukevent> batch;
            std::uint64_t number = 0;
            while (number < share) {
                batch.clear();
                const std::uint64_t count =
                    std::min<std::uint64_t>(rng.up_to(shape.batch_max), share - number);
                for (std::uint64_t i = 0; i < count; ++i) {
                    batch.push_back(stamped(static_cast<std::uint32_t>(source), number + i));
                }
                std::size_t done = 0;
                if (shape.waits) done = ring.publish_until(batch, deadline);
                while (done < batch.size() && clock::now() < deadline) {
                    done += ring.publish(std::span(batch).subspan(done));
                    if (done < batch.size()) std::this_thread::yield();
                }
                if (done < batch.size()) {
                    unpublished += share - number - done;
                    return;
                }
                number += count;
            }
        });
    }
    std::vector<std::thread> consumers;
    for (std::size_t i = 0; i < shape.consumers; ++i) {
        consumers.emplace_back([&, i] {
            rng rng(seed + 1000 + i);
            std::vector<ukevent> target(shape.batch_max);
            while (true) {
                const std::span<ukevent> part = std::span(target).first(rng.up_to(shape.batch_max));
                const bool closed = ring.is_closed();
                const claimed_events got =
                    shape.waits ? ring.claim_until(part, deadline) : ring.claim(part);
                for (std::size_t k = 0; k < got.count; ++k) log.add(got.first + k, part[k]);
                if (got.count != 0) {
                    const std::int64_t result = ring.commit(got.end());
                    if (result >= 0)
                        freed += static_cast<std::uint64_t>(result);
                    else
                        ++commit_errors;
                } else if (closed || clock::now() >= deadline) {
                    return;
                } else {
                    std::this_thread::yield();
                }
            }
        });
    }
    for (std::thread& producer : producers) producer.join();
    ring.close();
    for (std::thread& consumer : consumers) consumer.join();

    if (unpublished != 0) return "a producer did not get on";
    if (commit_errors != 0) return "a commit was refused";
    if (freed != event_count) return "slots were freed twice or not at all";
    return log.verdict(shape.producers);
}

}  // namespace

TEST_CASE("events of many producers reach many consumers once and in order",
          "[kevent][event_ring][threads][K-085][K-126]") {
    const shape shapes[] = {
        {1, 1, 1024, 64, false, 30}, {2, 2, 256, 32, false, 20}, {4, 4, 64, 16, true, 20},
        {3, 1, 16, 5, false, 10},    {1, 3, 16, 5, true, 8},     {2, 2, 2, 3, false, 5},
        {3, 3, 8, 1, true, 4},       {4, 4, 2, 2, true, 3},
    };
    const std::uint64_t seed = static_cast<std::uint64_t>(clock::now().time_since_epoch().count());
    CAPTURE(seed);

    for (const shape& shape : shapes) {
        CAPTURE(shape.producers, shape.consumers, shape.capacity, shape.batch_max, shape.waits);
        std::uint64_t left = stress_events() * shape.share / 100;
        while (left != 0) {
            const std::uint64_t count = std::min(left, round_events_max);
            REQUIRE(run_round(shape, count, seed + left) == "");
            left -= count;
        }
    }
}

namespace {

// The program's side of a ring in its memory: threads that take slots by a compare-and-swap on a
// position that they share, with the copy before it, so that a commit by another cannot hurt.
class reader_position {
public:
    explicit reader_position(const kevent_ring& ring, std::uint32_t slot_count)
        : ring_(ring), slot_count_(slot_count) {}

    claimed_events take(std::span<ukevent> target) {
        std::uint64_t first = next_.load(std::memory_order_acquire);
        while (true) {
            const std::uint32_t slot = static_cast<std::uint32_t>(first % slot_count_);
            const std::uint32_t kidx = __atomic_load_n(&ring_.ring_kidx, __ATOMIC_ACQUIRE);
            const std::size_t ready = (kidx + slot_count_ - slot) % slot_count_;
            const std::size_t count = std::min(ready, target.size());
            for (std::size_t i = 0; i < count; ++i) {
                copy((slot + i) % slot_count_, target[i]);
            }
            if (next_.compare_exchange_weak(first, first + count, std::memory_order_acq_rel,
                                            std::memory_order_acquire)) {
                return {first, count};
            }
        }
    }

private:
    using word [[gnu::may_alias]] = std::uint64_t;

    void copy(std::size_t slot, ukevent& target) const {
        std::array<std::uint64_t, sizeof(ukevent) / 8> words;
        const word* const from = reinterpret_cast<const word*>(&ring_.event[slot]);
        for (std::size_t i = 0; i < words.size(); ++i) {
            words[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
        }
        std::memcpy(&target, words.data(), sizeof(target));
    }

    const kevent_ring& ring_;
    const std::uint32_t slot_count_;
    std::atomic<std::uint64_t> next_{0};
};

struct commit_counts {
    std::uint64_t freed = 0;
    std::uint64_t late = 0;    // -EOVERFLOW: the ring wrapped twice before this thread continued
    std::uint64_t errors = 0;  // anything else
};

// One thread places records; `reader_count` threads take and commit batches of any size.
std::string run_caller_ring(std::uint32_t slot_count, std::size_t reader_count,
                            std::uint64_t event_count, commit_counts& sum) {
    std::vector<std::uint64_t> memory(1 + std::size_t{5} * slot_count);
    auto* const shared = reinterpret_cast<kevent_ring*>(memory.data());
    caller_ring ring(shared, slot_count);
    reader_position position(*shared, slot_count);
    event_log log(event_count);
    std::atomic<std::uint64_t> taken{0};
    std::atomic<std::uint64_t> freed{0}, late{0}, errors{0};
    const clock::time_point deadline = clock::now() + std::chrono::seconds(300);

    std::vector<std::thread> readers;
    for (std::size_t i = 0; i < reader_count; ++i) {
        readers.emplace_back([&, i] {
            rng rng(i + 1);
            std::array<ukevent, 8> target;
            while (taken < event_count && clock::now() < deadline) {
                const claimed_events got =
                    position.take(std::span(target).first(rng.up_to(target.size())));
                if (got.count == 0) {
                    std::this_thread::yield();
                    continue;
                }
                for (std::size_t k = 0; k < got.count; ++k) log.add(got.first + k, target[k]);
                taken += got.count;
                const int result = ring.commit(static_cast<std::uint32_t>(got.end() % slot_count),
                                               static_cast<std::uint32_t>(got.end() / slot_count));
                if (result >= 0)
                    freed += static_cast<std::uint64_t>(result);
                else if (result == -EOVERFLOW)
                    ++late;
                else
                    ++errors;
            }
        });
    }
    std::uint64_t placed = 0;
    while (placed < event_count && clock::now() < deadline) {
        // One slot stays free: a program that knows ring_kidx only cannot tell full from empty.
        if (ring.space() > 1) {
            if (ring.place(stamped(0, placed))) ++placed;
        } else {
            std::this_thread::yield();
        }
    }
    for (std::thread& reader : readers) reader.join();

    sum = {freed, late, errors};
    if (placed != event_count) return "the queue did not get on";
    if (shared->ring_kidx != event_count % slot_count) return "ring_kidx is wrong";
    // Other threads had committed all late ones; the last commit is never late.
    if (ring.positions().consumer != event_count) return "not all is committed";
    if (shared->ring_over != static_cast<std::uint32_t>(event_count / slot_count)) {
        return "ring_over is wrong";
    }
    return log.verdict(1);
}

}  // namespace

TEST_CASE("four threads take and commit what the queue places, each record once",
          "[kevent][caller_ring][threads][K-085][K-086]") {
    commit_counts sum;

    SECTION("in a ring that does not wrap twice, where no commit is refused") {
        const std::uint64_t count = std::min(stress_events(), round_events_max);
        REQUIRE(run_caller_ring(static_cast<std::uint32_t>(count / 2 + 1), 4, count, sum) == "");
        CHECK(sum.late == 0);
        CHECK(sum.errors == 0);
        CHECK(sum.freed == count);
    }
    SECTION("in small rings, where a commit that is one lap late is refused") {
        for (std::uint64_t left = stress_events(); left != 0;) {
            const std::uint64_t count = std::min(left, round_events_max);
            for (const std::uint32_t slot_count : {3u, 64u}) {
                const std::uint64_t part = slot_count == 3 ? count / 10 : count - count / 10;
                REQUIRE(run_caller_ring(slot_count, 4, part, sum) == "");
                CHECK(sum.errors == 0);
                CHECK(sum.freed == part);
            }
            left -= count;
        }
    }
}
