// interleavings.hpp: runs a few threads in every possible order, and with every value that their
// loads can return.
//
// Code that takes its atomics and its sleeping from a type (as kevring::detail::native_threads) gets
// model_threads (model_threads.hpp) instead. Its threads are then contexts of one thread, and before each
// atomic operation the explorer selects the thread that continues. It repeats the run from the start with
// another selection, depth first, until it has tried all.
//
// Memory      Each location keeps its stores, in order. A load may return an old one unless an
//             operation that happens before the load makes a newer one visible. The model
//             distinguishes release, acquire, relaxed and seq_cst. Not modelled: a store that
//             becomes visible before an earlier operation of its thread, stores to one location
//             out of the order of execution, and spurious failures of compare_exchange_weak.
// Reduction   The next step of a thread depends only on the values that it has read. Two runs with
//             equal memory and equal values read continue equally, so only one of them continues.
//             States are compared by a 64-bit hash.
// Bounds      Old values returned in a run, and switches away from a thread that could continue.
//             With no old values the memory is sequentially consistent.
// Thread      One. Code under test allocates and throws nothing between two atomic operations,
//             because an abandoned run does not unwind its stacks.
#pragma once

#include <kevring/kevent/detail/futex.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <csetjmp>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <ucontext.h>

namespace model {

inline std::uint64_t mixed(std::uint64_t hash, std::uint64_t value) noexcept {
    hash ^= value + 0x9e3779b97f4a7c15u + (hash << 6) + (hash >> 2);
    hash *= 0xff51afd7ed558ccdu;
    return hash ^ (hash >> 32);
}

/// An operation on a location.
enum class access : std::uint8_t { load, store, exchange, failed_exchange };

/// A planted defect. The explorer queries it at each operation; locations are numbered in the order
/// of their construction.
struct mutation {
    std::string name;
    /// The order to use instead.
    std::function<std::memory_order(std::size_t location, access, std::memory_order)> order;
    /// Whether a compare-and-swap is a separate load and store, between which others can run.
    std::function<bool(std::size_t location)> torn;
    bool wakes_no_thread = false;
    bool sleeps_unseen = false;  ///< goes to sleep without comparing the word
};

struct limits {
    int old_values_max = 0;
    int switches_max = -1;  ///< -1: no limit
    /// Whether the knowledge of threads is part of a state even if no old value is readable any
    /// more: for scenarios that call known().
    bool knowledge = false;
    /// Whether a wake is part of the history of its thread. Without it, the next operation of the thread is
    /// taken for the wake itself where no thread sleeps: for code that wakes in the middle of an update.
    bool wakes_are_steps = false;
    std::uint64_t runs_max = 20'000'000;
};

/// The extent of an exploration, and its finding.
struct coverage {
    std::uint64_t runs = 0;
    std::uint64_t states = 0;  ///< in which another thread could have continued
    std::uint64_t steps = 0;
    std::uint64_t ends = 0;  ///< runs that reached the end without reaching a known state
    std::size_t steps_longest = 0;
    bool complete = false;  ///< within the limits
    std::string failure;    ///< empty: none
};

/// A few threads and the property to check. One object per run.
class scenario {
public:
    virtual ~scenario() = default;
    virtual std::size_t thread_count() const = 0;
    /// The body of a thread.
    virtual void run(std::size_t thread) = 0;
    /// Called when every thread has ended or sleeps forever. Returns the violation, or an empty text.
    virtual std::string verdict(const std::vector<bool>& asleep) = 0;
    /// Called before the running thread stores to a location. Returns the violation, or null.
    virtual const char* before_store(std::size_t) { return nullptr; }
    /// Hash of everything that the verdict depends on, except memory and the next steps of the threads.
    virtual std::uint64_t state() const = 0;
};

class explorer {
public:
    static constexpr std::size_t location_count_max = 32;
    static constexpr std::size_t thread_count_max = 5;

    explorer(limits limits, mutation mutation)
        : limits_(limits), mutation_(std::move(mutation)), stacks_(thread_count_max) {
        for (auto& stack : stacks_) stack.resize(stack_bytes);
        seen_.assign(1u << 16, 0);
    }

    coverage explore(const std::function<std::unique_ptr<scenario>()>& make) {
        current_ = this;
        while (true) {
            run_once(make);
            ++coverage_.runs;
            coverage_.steps_longest = std::max(coverage_.steps_longest, steps_);
            if (!coverage_.failure.empty()) break;
            while (!choices_.empty() && choices_.back().taken + 1 == choices_.back().count) {
                choices_.pop_back();
            }
            if (choices_.empty()) {
                coverage_.complete = true;
                break;
            }
            if (coverage_.runs >= limits_.runs_max) break;
            ++choices_.back().taken;
        }
        current_ = nullptr;
        return coverage_;
    }

    static explorer& current() { return *current_; }

    // For the atomics and for model_threads.

    std::size_t add_location(std::uint64_t value) {
        if (location_count_ == location_count_max) fatal("too many atomics");
        word_history& made = locations_[location_count_];
        made.stores.clear();
        made.stores.push_back({value, {}});
        return location_count_++;
    }

    std::uint64_t load(std::size_t location, std::memory_order order) {
        if (!running_) return locations_[location].stores.back().value;
        point();
        order = ordered(location, access::load, order);
        return read(location, order, [](std::uint64_t) { return true; });
    }

    void store(std::size_t location, std::uint64_t value, std::memory_order order) {
        if (!running_) {
            locations_[location].stores.assign(1, {value, {}});
            return;
        }
        point();
        if (const char* const wrong = scenario_->before_store(location)) {
            coverage_.failure = wrong;
            _longjmp(explorer_place_, 1);
        }
        write(location, value, ordered(location, access::store, order), false);
    }

    std::uint64_t add(std::size_t location, std::uint64_t value, std::memory_order order) {
        if (!running_) fatal("fetch_add outside a run");
        point();
        order = ordered(location, access::exchange, order);
        const std::uint64_t old = read_last(location, order);
        write(location, old + value, order, true);
        return old;
    }

    bool exchange(std::size_t location, std::uint64_t& expected, std::uint64_t desired,
                  std::memory_order success, std::memory_order failure) {
        word_history& word = locations_[location];
        if (!running_) {
            const std::uint64_t value = word.stores.back().value;
            const bool equal = value == expected;
            word.stores.assign(1, {equal ? desired : value, {}});
            expected = value;
            return equal;
        }
        point();
        if (word.stores.back().value == expected) {
            success = ordered(location, access::exchange, success);
            read_last(location, success);
            if (mutation_.torn && mutation_.torn(location)) {
                point();
                write(location, desired, success, false);
            } else {
                write(location, desired, success, true);
            }
            return true;
        }
        const std::uint64_t wanted = expected;
        expected = read(location, ordered(location, access::failed_exchange, failure),
                        [wanted](std::uint64_t value) { return value != wanted; });
        return false;
    }

    kevring::detail::wait_status sleep(std::size_t location, std::uint64_t expected,
                                       bool has_deadline) {
        point();
        thread& self = threads_[self_];
        if (!mutation_.sleeps_unseen && locations_[location].stores.back().value != expected) {
            self.history = mixed(self.history, 1);
            return kevring::detail::wait_status::woken;
        }
        self.sleeps_on = static_cast<int>(location);
        self.has_deadline = has_deadline;
        self.timed_out = false;
        schedule();
        self.history = mixed(self.history, self.timed_out ? 3 : 2);
        return self.timed_out ? kevring::detail::wait_status::timed_out
                              : kevring::detail::wait_status::woken;
    }

    void wake(std::size_t location, std::uint32_t count) {
        point();
        if (limits_.wakes_are_steps) threads_[self_].history = mixed(threads_[self_].history, 4);
        if (mutation_.wakes_no_thread) return;
        while (count != 0) {
            std::array<std::size_t, thread_count_max> sleepers{};
            std::size_t sleeper_count = 0;
            for (std::size_t i = 0; i < thread_count_; ++i) {
                if (threads_[i].sleeps_on == static_cast<int>(location))
                    sleepers[sleeper_count++] = i;
            }
            if (sleeper_count == 0) return;
            threads_[sleepers[choose(sleeper_count)]].sleeps_on = awake;
            --count;
        }
    }

    /// The running thread says that what it does from here on depends on `summary` alone.
    void forget(std::uint64_t summary) {
        if (running_) threads_[self_].history = mixed(0, summary);
    }

    /// The newest value of a location that is known to the running thread: all that led to it
    /// happened before what the thread does next.
    std::uint64_t known(std::size_t location) const {
        return locations_[location].stores[threads_[self_].seen[location]].value;
    }

    /// How often a location was stored to in this run.
    std::size_t store_count(std::size_t location) const {
        return locations_[location].stores.size() - 1;
    }

private:
    using view = std::array<std::uint16_t, location_count_max>;

    static constexpr std::size_t stack_bytes = 64 * 1024;
    static constexpr std::size_t steps_max = 5'000;
    static constexpr int awake = -1;

    struct stored {
        std::uint64_t value;
        view seen;  // what a load that acquires it knows from then on
    };
    struct word_history {
        std::vector<stored> stores;
    };
    struct thread {
        view seen{};
        std::uint64_t history = 0;
        int sleeps_on = awake;
        bool has_deadline = false;
        bool timed_out = false;
        bool ended = false;
        bool started = false;
        std::jmp_buf place;
        ucontext_t start;
    };
    struct choice {
        std::size_t taken;
        std::size_t count;
    };

    [[noreturn]] static void fatal(const char* what) {
        std::fprintf(stderr, "interleavings: %s\n", what);
        std::abort();
    }

    static bool acquires(std::memory_order order) {
        return order == std::memory_order_acquire || order == std::memory_order_acq_rel ||
               order == std::memory_order_seq_cst;
    }
    static bool releases(std::memory_order order) {
        return order == std::memory_order_release || order == std::memory_order_acq_rel ||
               order == std::memory_order_seq_cst;
    }

    std::memory_order ordered(std::size_t location, access kind, std::memory_order order) const {
        return mutation_.order ? mutation_.order(location, kind, order) : order;
    }

    void join(view& target, const view& source) const {
        for (std::size_t i = 0; i < location_count_; ++i)
            target[i] = std::max(target[i], source[i]);
    }

    template <class May>
    std::uint64_t read(std::size_t location, std::memory_order order, May may) {
        thread& self = threads_[self_];
        const word_history& word = locations_[location];
        const std::size_t last = word.stores.size() - 1;
        std::size_t index = last;
        if (old_values_left_ != 0) {
            std::size_t oldest = self.seen[location];
            // No seq_cst load returns less than what an earlier seq_cst operation left or found.
            if (order == std::memory_order_seq_cst)
                oldest = std::max<std::size_t>(oldest, sc_[location]);
            std::array<std::size_t, 64> options{};
            std::size_t option_count = 0;
            for (std::size_t i = last + 1; i-- > oldest && option_count < options.size();) {
                if (may(word.stores[i].value)) options[option_count++] = i;
            }
            if (option_count > 1) index = options[choose(option_count)];
        }
        if (index != last) --old_values_left_;
        self.seen[location] = static_cast<std::uint16_t>(index);
        if (acquires(order)) join(self.seen, word.stores[index].seen);
        if (order == std::memory_order_seq_cst) {
            sc_[location] = std::max(sc_[location], static_cast<std::uint16_t>(index));
        }
        self.history = mixed(self.history, word.stores[index].value);
        return word.stores[index].value;
    }

    std::uint64_t read_last(std::size_t location, std::memory_order order) {
        thread& self = threads_[self_];
        const stored& last = locations_[location].stores.back();
        self.seen[location] = static_cast<std::uint16_t>(locations_[location].stores.size() - 1);
        if (acquires(order)) join(self.seen, last.seen);
        self.history = mixed(self.history, last.value);
        return last.value;
    }

    void write(std::size_t location, std::uint64_t value, std::memory_order order, bool continues) {
        thread& self = threads_[self_];
        word_history& word = locations_[location];
        const auto index = static_cast<std::uint16_t>(word.stores.size());
        self.seen[location] = index;
        view seen{};
        // An exchange is part of the release sequence that it continues.
        if (continues) seen = word.stores.back().seen;
        if (releases(order)) join(seen, self.seen);
        seen[location] = index;
        word.stores.push_back({value, seen});
        if (order == std::memory_order_seq_cst) sc_[location] = index;
    }

    std::size_t choose(std::size_t count) {
        if (count == 1) return 0;
        if (choice_index_ == choices_.size()) choices_.push_back({0, count});
        if (choices_[choice_index_].count != count) fatal("a run does not repeat itself");
        return choices_[choice_index_++].taken;
    }

    // Before each operation of a thread.
    void point() {
        if (starting_) {
            if (_setjmp(threads_[self_].place) == 0) _longjmp(explorer_place_, 1);
        } else {
            schedule();
        }
        ++coverage_.steps;
        if (++steps_ > steps_max) {
            coverage_.failure = "a run without an end";
            _longjmp(explorer_place_, 1);
        }
    }

    bool can_continue(std::size_t i) const {
        const thread& t = threads_[i];
        return !t.ended && (t.sleeps_on == awake || t.has_deadline);
    }

    // Selects the thread that continues, and returns when that is the running thread.
    void schedule() {
        std::array<std::size_t, thread_count_max> options{};
        std::size_t option_count = 0;
        // The running thread first: the first run is the one without switches.
        const bool self_can = can_continue(self_) && threads_[self_].sleeps_on == awake;
        if (self_can) options[option_count++] = self_;
        if (!self_can || switches_left_ != 0) {
            for (std::size_t i = 0; i < thread_count_; ++i) {
                if ((i != self_ || !self_can) && can_continue(i)) options[option_count++] = i;
            }
        }
        if (option_count == 0) {  // all have ended, or sleep
            at_end_ = true;
            _longjmp(explorer_place_, 1);
        }
        if (option_count > 1 && choice_index_ == choices_.size() && !is_new(state())) {
            _longjmp(explorer_place_, 1);
        }
        const std::size_t next = options[choose(option_count)];
        if (self_can && next != self_ && switches_left_ > 0) --switches_left_;
        thread& chosen = threads_[next];
        if (chosen.sleeps_on != awake) {
            chosen.sleeps_on = awake;
            chosen.timed_out = true;
        }
        if (next == self_) return;
        const std::size_t from = self_;
        if (threads_[from].ended || _setjmp(threads_[from].place) == 0) {
            self_ = next;
            _longjmp(chosen.place, 1);
        }
    }

    std::uint64_t state() const {
        std::uint64_t hash =
            mixed(scenario_->state(), static_cast<std::uint64_t>(old_values_left_));
        if (limits_.switches_max >= 0) {
            hash = mixed(hash, static_cast<std::uint64_t>(switches_left_));
            hash = mixed(hash, self_);
        }
        for (std::size_t i = 0; i < thread_count_; ++i) {
            const thread& t = threads_[i];
            hash = mixed(hash, t.history);
            hash = mixed(hash, static_cast<std::uint64_t>(t.sleeps_on + 1) * 2 + (t.ended ? 1 : 0));
        }
        if (old_values_left_ == 0 && !limits_.knowledge) {
            for (std::size_t location = 0; location < location_count_; ++location) {
                hash = mixed(hash, locations_[location].stores.back().value);
            }
            return hash;
        }
        // Stores that no thread can read any more do not count, and of the others only their order.
        view oldest{};
        for (std::size_t location = 0; location < location_count_; ++location) {
            oldest[location] = static_cast<std::uint16_t>(locations_[location].stores.size() - 1);
            for (std::size_t i = 0; i < thread_count_; ++i) {
                if (!threads_[i].ended)
                    oldest[location] = std::min(oldest[location], threads_[i].seen[location]);
            }
        }
        const auto mix_view = [&](const view& seen) {
            for (std::size_t location = 0; location < location_count_; ++location) {
                hash =
                    mixed(hash, static_cast<std::uint64_t>(
                                    std::max(seen[location], oldest[location]) - oldest[location]));
            }
        };
        for (std::size_t location = 0; location < location_count_; ++location) {
            const word_history& word = locations_[location];
            hash = mixed(hash, word.stores.size() - oldest[location]);
            for (std::size_t i = oldest[location]; i < word.stores.size(); ++i) {
                hash = mixed(hash, word.stores[i].value);
                mix_view(word.stores[i].seen);
            }
        }
        for (std::size_t i = 0; i < thread_count_; ++i) {
            if (!threads_[i].ended) mix_view(threads_[i].seen);
        }
        mix_view(sc_);
        return hash;
    }

    // Notes a state; false if it was known.
    bool is_new(std::uint64_t hash) {
        if (hash == 0) hash = 1;
        if (coverage_.states * 2 >= seen_.size()) {
            std::vector<std::uint64_t> old(seen_.size() * 2, 0);
            old.swap(seen_);
            for (const std::uint64_t known : old) {
                if (known != 0) *place_of(known) = known;
            }
        }
        std::uint64_t* const place = place_of(hash);
        if (*place == hash) return false;
        *place = hash;
        ++coverage_.states;
        return true;
    }

    std::uint64_t* place_of(std::uint64_t hash) {
        std::size_t slot = static_cast<std::size_t>(hash) & (seen_.size() - 1);
        while (seen_[slot] != 0 && seen_[slot] != hash) slot = (slot + 1) & (seen_.size() - 1);
        return &seen_[slot];
    }

    static void enter_thread() {
        explorer& self = current();
        self.scenario_->run(self.self_);
        self.threads_[self.self_].ended = true;
        if (self.starting_) _longjmp(self.explorer_place_, 1);
        self.schedule();
        fatal("an ended thread was chosen");
    }

    void run_once(const std::function<std::unique_ptr<scenario>()>& make) {
        location_count_ = 0;
        running_ = false;
        scenario_ = make();
        thread_count_ = scenario_->thread_count();
        choice_index_ = 0;
        steps_ = 0;
        old_values_left_ = limits_.old_values_max;
        switches_left_ = limits_.switches_max;
        sc_ = {};
        at_end_ = false;
        for (thread& t : threads_) {
            t.seen = {};
            t.history = 0;
            t.sleeps_on = awake;
            t.ended = false;
            t.started = false;
        }
        // Runs each thread up to its first operation, which no other thread can observe.
        running_ = true;
        starting_ = true;
        for (starting_index_ = 0; starting_index_ < thread_count_; ++starting_index_) {
            self_ = starting_index_;
            thread& t = threads_[self_];
            if (::getcontext(&t.start) != 0) fatal("getcontext");
            t.start.uc_stack.ss_sp = stacks_[self_].data();
            t.start.uc_stack.ss_size = stack_bytes;
            t.start.uc_link = nullptr;
            ::makecontext(&t.start, &explorer::enter_thread, 0);
            if (_setjmp(explorer_place_) == 0) ::setcontext(&t.start);
        }
        starting_ = false;
        if (_setjmp(explorer_place_) == 0) {
            // As if a thread that has ended decided who is first.
            self_ = thread_count_;
            threads_[self_].ended = true;
            schedule();
        }
        running_ = false;
        if (at_end_ && coverage_.failure.empty()) {
            ++coverage_.ends;
            std::vector<bool> asleep;
            for (std::size_t i = 0; i < thread_count_; ++i) asleep.push_back(!threads_[i].ended);
            coverage_.failure = scenario_->verdict(asleep);
        }
    }

    inline static explorer* current_ = nullptr;

    const limits limits_;
    const mutation mutation_;
    coverage coverage_;
    std::vector<choice> choices_;
    std::vector<std::uint64_t> seen_;
    std::vector<std::vector<unsigned char>> stacks_;

    // Of the run.
    std::unique_ptr<scenario> scenario_;
    std::array<word_history, location_count_max> locations_;
    std::size_t location_count_ = 0;
    std::array<thread, thread_count_max + 1> threads_;
    std::size_t thread_count_ = 0;
    std::size_t self_ = 0;
    std::size_t starting_index_ = 0;
    std::size_t choice_index_ = 0;
    std::size_t steps_ = 0;
    int old_values_left_ = 0;
    int switches_left_ = 0;
    view sc_{};
    bool running_ = false;
    bool starting_ = false;
    bool at_end_ = false;
    std::jmp_buf explorer_place_;
};

}  // namespace model
