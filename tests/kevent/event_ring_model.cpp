// event_ring_model.cpp: the ring of events in every order in which a few threads can use it.
//
// The explored code is basic_event_ring itself, over the atomics of
// tests/support/interleavings.hpp. Each shape prints its coverage. The second half proves that the
// explorer finds defects: it weakens the memory orders of the ring one by one, and splits exchanges
// and wake-ups.
#include "tests/support/catch.hpp"
#include "tests/support/interleavings.hpp"
#include "tests/support/model_threads.hpp"

#include <kevring/kevent/event_ring.hpp>

#include <array>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

namespace {

// Two words, so that a torn copy has words of two events.
struct record {
    std::uint64_t id;
    std::uint64_t check;
};

using model_ring = kevring::basic_event_ring<record, model::model_threads>;

constexpr model_ring::time_point some_time{};  // the explorer may let it pass at any step

enum class wait : std::uint8_t { no, forever, some_time };

struct shape {
    const char* name;
    std::size_t capacity;
    std::vector<std::vector<std::size_t>> producers;  // the batches of each
    std::vector<std::vector<std::size_t>> consumers;  // the most that each claim takes
    wait producers_wait = wait::no;
    wait consumers_wait = wait::no;
    bool closes = false;  // one more thread closes the ring
    model::limits limits;
    std::uint64_t first_position = 0;
};

constexpr std::size_t number_bits = 4;

class ring_scenario final : public model::scenario {
public:
    explicit ring_scenario(const shape& shape)
        : shape_(shape), ring_(shape.capacity, shape.first_position) {}

    std::size_t thread_count() const override {
        return shape_.producers.size() + shape_.consumers.size() + (shape_.closes ? 1 : 0);
    }

    void run(std::size_t thread) override {
        if (thread < shape_.producers.size()) return produce(thread);
        thread -= shape_.producers.size();
        if (thread < shape_.consumers.size()) return consume(shape_.consumers[thread]);
        ring_.close();
    }

    std::uint64_t state() const override {
        std::uint64_t hash = freed_;
        for (const std::uint64_t id : found_) hash = model::mixed(hash, id);
        for (const std::size_t count : published_) hash = model::mixed(hash, count);
        return model::mixed(hash, wrong_ == nullptr ? 0 : 1);
    }

    // Only a thread that knows that a slot was copied writes it again. Then no kept copy can have
    // bytes of the next lap, in any order in which a processor executes the accesses.
    const char* before_store(std::size_t location) override {
        const std::size_t capacity = shape_.capacity;
        if (location < capacity || location >= 3 * capacity) return nullptr;  // not of a slot
        const model::explorer& loop = model::explorer::current();
        const std::size_t lap = loop.store_count(location);
        const std::size_t claimed = 3 * capacity + 2;
        const std::uint64_t slot = (location - capacity) / 2;
        const std::uint64_t first = shape_.first_position % capacity;
        const std::uint64_t position =
            shape_.first_position + (slot + capacity - first) % capacity + lap * capacity;
        if (lap == 0 || loop.known(claimed) + capacity > position) return nullptr;
        return "a slot is written that a consumer may be reading";
    }

    std::string verdict(const std::vector<bool>& asleep) override {
        if (wrong_ != nullptr) return wrong_;
        for (std::size_t i = 0; i < asleep.size(); ++i) {
            if (!asleep[i]) continue;
            if (shape_.closes) return "asleep after close";
            if (i < shape_.producers.size()) {
                if (!ring_.is_full()) return "a producer sleeps and there is room";
            } else if (!ring_.is_empty()) {
                return "a consumer sleeps and there is an event";
            }
        }
        if (freed_ != ring_.committed() - shape_.first_position) return "slots were freed twice";
        // The remaining events, in order.
        std::array<record, 8> rest{};
        const kevring::claimed_events got = ring_.claim(rest);
        log_events(got, rest.data());
        if (wrong_ != nullptr) return wrong_;
        if (!ring_.is_empty()) return "an event is stuck";
        // Everything once, without a gap, and each producer's in order.
        std::array<std::size_t, 4> next{};
        std::size_t total = 0;
        for (const std::size_t count : published_) total += count;
        for (std::size_t i = 0; i < shape_.producers.size(); ++i) {
            // A sleeping producer has not yet counted the events that it has published.
            if (asleep[i]) total = static_cast<std::size_t>(got.end() - shape_.first_position);
        }
        for (std::size_t index = 0; index < found_.size(); ++index) {
            if ((found_[index] != 0) != (index < total)) return "an event was lost, or made up";
            if (found_[index] == 0) break;
            const std::size_t source = (found_[index] >> number_bits) - 1;
            const std::size_t number = found_[index] & ((1u << number_bits) - 1);
            if (source >= shape_.producers.size() || number != next[source]++)
                return "out of order";
        }
        // A ring with space for all events takes all.
        std::size_t wanted = 0;
        for (const auto& batches : shape_.producers) {
            for (const std::size_t count : batches) wanted += count;
        }
        if (wanted <= shape_.capacity && total != wanted) return "full, with room for all";
        return {};
    }

private:
    void produce(std::size_t source) {
        std::size_t& number = published_[source];
        for (std::size_t op = 0; op < shape_.producers[source].size(); ++op) {
            std::array<record, 4> batch{};
            const std::size_t count = shape_.producers[source][op];
            for (std::size_t i = 0; i < count; ++i) {
                batch[i].id = ((source + 1) << number_bits) + number + i;
                batch[i].check = ~batch[i].id;
            }
            const std::span<const record> events = std::span(batch).first(count);
            number += shape_.producers_wait == wait::no
                          ? ring_.publish(events)
                          : ring_.publish_until(events, deadline(shape_.producers_wait));
            model::explorer::current().forget(op + 1);  // state() has the count too
        }
    }

    void consume(const std::vector<std::size_t>& claims) {
        for (std::size_t op = 0; op < claims.size(); ++op) {
            std::array<record, 4> target{};
            const std::span<record> part = std::span(target).first(claims[op]);
            const kevring::claimed_events got =
                shape_.consumers_wait == wait::no
                    ? ring_.claim(part)
                    : ring_.claim_until(part, deadline(shape_.consumers_wait));
            log_events(got, target.data());
            if (got.count != 0) {
                const std::int64_t result = ring_.commit(got.end());
                if (result < 0)
                    wrong_ = "a commit was refused";
                else
                    freed_ += static_cast<std::uint64_t>(result);
            }
            model::explorer::current().forget(op + 1);
        }
    }

    void log_events(kevring::claimed_events got, const record* records) {
        for (std::size_t i = 0; i < got.count; ++i) {
            const std::uint64_t index = got.first - shape_.first_position + i;
            if (index >= found_.size())
                wrong_ = "a position too far";
            else if (found_[index] != 0)
                wrong_ = "two claims of one position";
            else if (records[i].id == 0 || records[i].check != ~records[i].id)
                wrong_ = "a torn record";
            else
                found_[index] = records[i].id;
        }
    }

    static model_ring::time_point deadline(wait how) {
        return how == wait::some_time ? some_time : model_ring::never;
    }

    const shape& shape_;
    model_ring ring_;
    std::array<std::uint64_t, 16> found_{};   // by position: the id
    std::array<std::size_t, 4> published_{};  // by producer
    std::uint64_t freed_ = 0;
    const char* wrong_ = nullptr;
};

model::coverage explore(const shape& shape, const model::limits& limits,
                        const model::mutation& mutation = {}) {
    model::explorer explorer(limits, mutation);
    return explorer.explore([&] { return std::make_unique<ring_scenario>(shape); });
}

void print(const shape& shape, const model::limits& limits, const model::coverage& found) {
    std::printf(
        "  %-34s slots %zu, old values %d, switches %s: %llu states, %llu runs, %llu ends, "
        "longest %zu%s\n",
        shape.name, shape.capacity, limits.old_values_max,
        limits.switches_max < 0 ? "all" : std::to_string(limits.switches_max).c_str(),
        static_cast<unsigned long long>(found.states), static_cast<unsigned long long>(found.runs),
        static_cast<unsigned long long>(found.ends), found.steps_longest,
        found.complete ? "" : ", NOT ALL");
    std::fflush(stdout);
}

// Small enough for every order to be explored; no thread sleeps.
std::vector<shape> shapes_without_sleep() {
    const model::limits all{.old_values_max = 2};
    return {
        {.name = "1 producer, 1 consumer",
         .capacity = 2,
         .producers = {{2, 1}},
         .consumers = {{2, 1}},
         .limits = {.old_values_max = 4}},
        {.name = "the same, the laps going round",
         .capacity = 2,
         .producers = {{2, 1, 2}},
         .consumers = {{2, 1, 2}},
         .limits = all,
         .first_position = (std::uint64_t{1} << 33) - 1},
        {.name = "2 producers, 1 consumer",
         .capacity = 2,
         .producers = {{1, 1}, {1}},
         .consumers = {{2, 1}},
         .limits = all},
        {.name = "1 producer, 2 consumers",
         .capacity = 2,
         .producers = {{2, 1}},
         .consumers = {{1, 1}, {2}},
         .limits = all},
        {.name = "2 producers, 2 consumers",
         .capacity = 2,
         .producers = {{1}, {1}},
         .consumers = {{1}, {1}},
         .limits = {.old_values_max = 3}},
        {.name = "2 producers, 2 consumers, 4 slots",
         .capacity = 4,
         .producers = {{2}, {1}},
         .consumers = {{2}, {2}},
         .limits = {.old_values_max = 1}},
    };
}

// Shapes in which the happens-before relation matters.
std::vector<shape> shapes_with_knowledge() {
    const model::limits known{.old_values_max = 0, .knowledge = true};
    return {
        {.name = "1 producer, 1 consumer, known",
         .capacity = 2,
         .producers = {{2, 1, 1}},
         .consumers = {{1, 2, 1}},
         .limits = known},
        {.name = "2 producers, 1 consumer, known",
         .capacity = 2,
         .producers = {{2, 1}, {1}},
         .consumers = {{2, 1}},
         .limits = known},
        {.name = "1 producer, 2 consumers, known",
         .capacity = 2,
         .producers = {{2, 1}},
         .consumers = {{1}, {1}},
         .limits = known},
    };
}

std::vector<shape> shapes_that_sleep() {
    const model::limits bounded{.old_values_max = 1, .switches_max = 2};
    const model::limits wider{.old_values_max = 1, .switches_max = 3};
    const model::limits older{.old_values_max = 2, .switches_max = 2};
    const model::limits strict{.old_values_max = 0, .switches_max = 2};
    constexpr wait never = wait::no;
    constexpr wait sleeps = wait::forever;
    constexpr wait gives_up = wait::some_time;
    return {
        {"1 consumer that sleeps", 2, {{1}, {1}}, {{1, 1}}, never, sleeps, false, bounded},
        {"a producer that sleeps", 2, {{3}, {1}}, {{2, 2}}, sleeps, never, false, bounded},
        {"closed, for a consumer", 2, {{1}}, {{1, 1}}, never, sleeps, true, wider},
        {"closed, for a producer", 2, {{3}, {1}}, {}, sleeps, never, true, wider},
        {"both sides sleep", 2, {{3}}, {{1, 2}}, sleeps, sleeps, false, wider},
        {"two producers sleep", 2, {{2, 1}, {2}}, {{2, 2, 1}}, sleeps, sleeps, false, strict},
        {"2 that sleep, 1 batch", 2, {{2}}, {{1}, {1}}, never, sleeps, false, older},
        {"2 with deadlines", 2, {{1}, {1}}, {{1}, {1}}, never, gives_up, false, strict},
        {"2 that sleep, 2 producers", 2, {{1}, {1}}, {{1}, {1}}, never, sleeps, false, bounded},
    };
}

void check_all(std::vector<shape> shapes) {
    for (const shape& shape : shapes) {
        CAPTURE(shape.name);
        const model::coverage found = explore(shape, shape.limits);
        print(shape, shape.limits, found);
        CHECK(found.failure == "");
        CHECK(found.complete);
    }
}

}  // namespace

TEST_CASE(
    "in every order of a few threads, each event is claimed once, "
    "whole and in order",
    "[kevent][event_ring][model][K-085][K-086]") {
    check_all(shapes_without_sleep());
    check_all(shapes_with_knowledge());
}

TEST_CASE("in every order of a few threads, no thread sleeps while it has work",
          "[kevent][event_ring][model][K-077][K-124][K-125]") {
    check_all(shapes_that_sleep());
}

namespace {

// Where the atomics of a model_ring are, in the order of its
// members.
enum class part : std::uint8_t {
    marks,
    words,
    reserved,
    committed_seen,
    claimed,
    committed,
    event_gate,
    space_gate,
    closed
};

part part_of(std::size_t location, std::size_t capacity) {
    if (location < capacity) return part::marks;
    if (location < 3 * capacity) return part::words;
    return static_cast<part>(static_cast<std::size_t>(part::reserved) + location - 3 * capacity);
}

// The orders `from` of one kind of access to one part become `to`.
struct weakening {
    part where;
    model::access kind;
    std::memory_order from;
    std::memory_order to;
};

const char* name_of(std::memory_order order) {
    if (order == std::memory_order_relaxed) return "relaxed";
    if (order == std::memory_order_acquire) return "acquire";
    if (order == std::memory_order_release) return "release";
    if (order == std::memory_order_acq_rel) return "acq_rel";
    return "seq_cst";
}

std::string name_of(const weakening& w) {
    constexpr const char* parts[] = {"marks",          "words",      "reserved",
                                     "committed_seen", "claimed",    "committed",
                                     "event gate",     "space gate", "closed"};
    constexpr const char* kinds[] = {"load", "store", "exchange", "failed exchange"};
    return std::string(kinds[static_cast<int>(w.kind)]) + " of " +
           parts[static_cast<int>(w.where)] + ": " + name_of(w.from) + " becomes " + name_of(w.to);
}

// The first shape in which the mutant misbehaves, and the misbehaviour.
std::string found_in(const std::vector<std::vector<shape>>& where,
                     const std::function<model::mutation(const shape&)>& make) {
    for (const std::vector<shape>& shapes : where) {
        for (const shape& shape : shapes) {
            const model::coverage found = explore(shape, shape.limits, make(shape));
            if (!found.failure.empty()) return std::string(shape.name) + ": " + found.failure;
        }
    }
    return {};
}

}  // namespace

TEST_CASE("the explorer finds the ring's orders weakened", "[kevent][event_ring][model]") {
    using enum std::memory_order;
    using model::access;
    const weakening weakenings[] = {
        {part::marks, access::store, seq_cst, relaxed},
        {part::marks, access::store, seq_cst, release},
        {part::marks, access::load, acquire, relaxed},
        {part::marks, access::load, seq_cst, acquire},
        {part::claimed, access::load, acquire, relaxed},
        {part::claimed, access::exchange, release, relaxed},
        {part::claimed, access::failed_exchange, acquire, relaxed},
        {part::committed, access::exchange, seq_cst, relaxed},
        {part::committed, access::exchange, seq_cst, acq_rel},
        {part::committed, access::load, acquire, relaxed},
        {part::committed, access::load, seq_cst, acquire},
        {part::committed_seen, access::load, acquire, relaxed},
        {part::committed_seen, access::store, release, relaxed},
        {part::event_gate, access::exchange, seq_cst, acq_rel},
        {part::event_gate, access::load, seq_cst, acquire},
        {part::space_gate, access::exchange, seq_cst, acq_rel},
        {part::space_gate, access::load, seq_cst, acquire},
        {part::closed, access::store, seq_cst, release},
        {part::closed, access::load, seq_cst, acquire},
    };

    for (const weakening& w : weakenings) {
        // An order is seq_cst only because of threads that sleep.
        const bool for_sleep = w.from == seq_cst && w.to != relaxed;
        std::vector<std::vector<shape>> where{shapes_that_sleep()};
        if (!for_sleep) where = {shapes_with_knowledge(), shapes_without_sleep()};
        const std::string found = found_in(where, [&w](const shape& shape) {
            model::mutation mutation;
            mutation.order = [&w, capacity = shape.capacity](std::size_t location, access kind,
                                                             std::memory_order order) {
                const bool hit =
                    part_of(location, capacity) == w.where && kind == w.kind && order == w.from;
                return hit ? w.to : order;
            };
            return mutation;
        });
        std::printf("  %-60s %s\n", name_of(w).c_str(), found.empty() ? "-" : found.c_str());
        std::fflush(stdout);
        CAPTURE(name_of(w));
        CHECK(found != "");
    }
}

TEST_CASE(
    "the explorer finds exchanges and wake-ups that were taken "
    "apart",
    "[kevent][event_ring][model]") {
    const auto torn = [](part where) {
        return [where](const shape& shape) {
            model::mutation mutation;
            mutation.torn = [where, capacity = shape.capacity](std::size_t location) {
                return part_of(location, capacity) == where;
            };
            return mutation;
        };
    };
    const std::vector<std::vector<shape>> polling{shapes_without_sleep()};
    const std::vector<std::vector<shape>> sleeping{shapes_that_sleep()};
    CHECK(found_in(polling, torn(part::reserved)) != "");
    CHECK(found_in(polling, torn(part::claimed)) != "");
    CHECK(found_in(polling, torn(part::committed)) != "");
    CHECK(found_in(sleeping, torn(part::event_gate)) != "");
    CHECK(found_in(sleeping, [](const shape&) {
              model::mutation mutation;
              mutation.wakes_no_thread = true;
              return mutation;
          }) != "");
    CHECK(found_in(sleeping, [](const shape&) {
              model::mutation mutation;
              mutation.sleeps_unseen = true;
              return mutation;
          }) != "");
}
