// timer_queue beside a std::multimap that says what it has to do, in long random runs.
//
// A failure names its seed; KEVRING_TEST_SEED=<seed> repeats exactly that run and no other.
#include <kevring/runtime/timer_queue.hpp>

#include "tests/support/catch.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <limits>
#include <map>
#include <random>
#include <string>
#include <vector>

using kevring::timer_node;
using kevring::timer_queue;

namespace {

constexpr std::int64_t earliest_time = std::numeric_limits<std::int64_t>::min();
constexpr std::int64_t never = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t second = 1'000'000'000;
constexpr std::int64_t time_limit = never - (std::int64_t{1} << 60);  // above every start
constexpr std::size_t unlimited = ~std::size_t{0};

// Applies every operation to both queues. It does not use CHECK, which is too slow for millions of
// checks.
class checked_queue {
public:
    explicit checked_queue(std::uint64_t seed)
        : random_(seed),
          now_ns_(std::array{std::int64_t{0}, -second, 86'400 * second, earliest_time,
                             std::int64_t{1} << 62}[below(5)]),
          queue_(now_ns_),
          timers_(std::array<std::size_t, 4>{3, 40, 700, 9'000}[below(4)]) {
        for (checked_timer& each : timers_) each.owner = this;
    }
    ~checked_queue() {
        for (checked_timer& each : timers_) queue_.disarm(each);
    }

    void run() {
        const int step_count = timers_.size() > 1'000 ? 60 : 1'000;
        for (int step = 0; step < step_count && failed_line_ == 0; ++step) {
            for (std::uint64_t i = below(8); i > 0; --i) change_one();
            if (below(16) == 0) change_crowd();
            if (below(4) != 0) pass_time();
            expire(below(3) == 0 ? below(5) : unlimited);
            if (below(4) == 0) finish_what_is_due();
        }
        arming_allowed_ = false;
        while (failed_line_ == 0 && !model_.empty()) {
            now_ns_ = std::max(now_ns_, queue_.next_deadline_ns());
            const std::size_t count_before = model_.size();
            finish_what_is_due();
            // Time that next_deadline_ns() names is not named in vain for long.
            empty_turns_ = model_.size() < count_before ? 0 : empty_turns_ + 1;
            require(empty_turns_ <= level_count);
        }
        require(queue_.empty());
    }

    int failed_line() const { return failed_line_; }
    std::size_t timer_count() const { return timers_.size(); }
    std::size_t fired_count() const { return fired_count_; }

private:
    struct checked_timer : timer_node {
        checked_timer()
            : timer_node([](timer_node& node) noexcept {
                  auto& self = static_cast<checked_timer&>(node);
                  self.owner->fire(self);
              }) {}
        checked_queue* owner = nullptr;
        std::multimap<std::int64_t, checked_timer*>::iterator in_model;
    };

    static constexpr int level_count = 11;  // a timer cascades through at most this many

    std::uint64_t below(std::uint64_t bound) { return random_() % bound; }
    void require(bool condition, int line = __builtin_LINE()) {
        if (!condition && failed_line_ == 0) failed_line_ = line;
    }
    std::int64_t model_next() const { return model_.empty() ? never : model_.begin()->first; }
    checked_timer& any_timer() { return timers_[below(timers_.size())]; }

    // Near and far, round and odd, past and absurd, alone and in the same nanosecond as others.
    std::int64_t some_deadline() {
        const std::uint64_t kind = below(20);
        if (kind == 0) return never - static_cast<std::int64_t>(below(3));
        if (kind == 1) return earliest_time + static_cast<std::int64_t>(below(3));
        if (kind == 2) return model_next();
        if (kind == 3) return any_timer().deadline_ns();
        const auto width = static_cast<std::int64_t>(below(std::uint64_t{1} << below(45)));
        if (kind == 4) return now_ns_ < earliest_time + width ? earliest_time : now_ns_ - width;
        if (kind == 5) return (now_ns_ / 65'536 + 1) * 65'536;
        if (kind < 14) return crowd_begin_ns_ + static_cast<std::int64_t>(below(crowd_width_ns_));
        return now_ns_ + width;  // fits: now_ns_ <= time_limit
    }

    void arm(checked_timer& timer) {
        const std::int64_t deadline = some_deadline();
        const std::int64_t kept = std::max(deadline, now_ns_);
        queue_.arm(timer, deadline);
        require(timer.armed() && timer.deadline_ns() == kept);
        timer.in_model = model_.emplace(kept, &timer);  // after its equals
        require(queue_.next_deadline_ns() <= model_next());
    }

    void change(checked_timer& timer) {
        const bool was_armed = timer.armed();
        require(queue_.disarm(timer) == was_armed);
        require(!timer.armed());
        if (was_armed) model_.erase(timer.in_model);
        if (arming_allowed_ && (!was_armed || below(4) != 0)) arm(timer);
    }

    void change_one() { change(any_timer()); }
    void change_many(std::size_t count) {
        const std::size_t first = below(timers_.size());
        for (std::size_t i = 0; i < count; ++i) change(timers_[(first + i) % timers_.size()]);
    }
    // One that is due, and so in the batch that is being fired, if there is one.
    void change_first() {
        if (!model_.empty()) change(*model_.begin()->second);
    }

    // A short interval with many timers: in one coarse slot, so that one call cannot cascade it
    // completely, and with equal deadlines if the interval is narrow.
    void change_crowd() {
        crowd_begin_ns_ = now_ns_ + static_cast<std::int64_t>(below(std::uint64_t{1} << below(40)));
        crowd_width_ns_ = std::uint64_t{1} << below(40);
        change_many(timers_.size());
        if (below(2) == 0) expire_within_crowd();
    }
    void expire_within_crowd() {
        const auto part = static_cast<std::int64_t>(below(crowd_width_ns_));
        now_ns_ = std::max(now_ns_, std::min(crowd_begin_ns_ + part, time_limit));
        for (std::uint64_t i = below(3); i > 0; --i) {
            expire(below(2) == 0 ? 1 : unlimited);
            change_many(std::min<std::size_t>(timers_.size(), below(100)));
        }
    }

    void pass_time() {
        const auto width = static_cast<std::int64_t>(below(std::uint64_t{1} << below(42)));
        std::int64_t then = now_ns_ + width;
        if (below(3) == 0) then = std::max(then, queue_.next_deadline_ns());
        now_ns_ = std::max(now_ns_, std::min(then, time_limit));
        if (below(8) == 0) expire(0);  // learns the time, fires nothing
    }

    void expire(std::size_t count_max) {
        const std::size_t counted_before = fired_count_;
        const std::size_t fired = queue_.expire(now_ns_, count_max);
        require(fired == fired_count_ - counted_before);
        require(fired <= count_max);
        require(queue_.size() == model_.size());
        require(queue_.empty() == model_.empty());
        const std::int64_t next = queue_.next_deadline_ns();
        require(next <= model_next());
        if (model_.empty()) require(next == never);
        if (below(8) == 0) {  // a clock that goes back changes nothing
            const auto back = static_cast<std::int64_t>(below(second));
            const std::int64_t before =
                now_ns_ < earliest_time + back ? earliest_time : now_ns_ - back;
            require(queue_.expire(before, 0) == 0);
        }
    }

    // As the loop does: again and again while something may be due. Bounded by the work there is.
    void finish_what_is_due() {
        const bool arming_was_allowed = arming_allowed_;
        arming_allowed_ = false;
        const std::size_t move_count_max = level_count * queue_.size();
        std::size_t turn_count = 0;
        do {
            expire(unlimited);
            ++turn_count;
            require(turn_count <= 2 + move_count_max / timer_queue::move_count_max);
        } while (failed_line_ == 0 && !model_.empty() && queue_.next_deadline_ns() <= now_ns_);
        require(model_.empty() || model_next() > now_ns_);
        arming_allowed_ = arming_was_allowed;
    }

    void fire(checked_timer& timer) {
        ++fired_count_;
        require(!timer.armed());
        require(!model_.empty() && model_.begin()->second == &timer);
        require(timer.deadline_ns() <= now_ns_);
        if (failed_line_ != 0) return;
        model_.erase(timer.in_model);
        require(queue_.size() == model_.size());
        switch (below(8)) {
            case 0:
            case 1: change_one(); break;
            case 2: change_first(); break;
            case 3: change(timer); break;  // itself: armed again
            case 4:
                if (below(8) == 0) change_many(std::min<std::size_t>(timers_.size(), 8));
                break;
            default: break;
        }
    }

    std::mt19937_64 random_;
    std::int64_t now_ns_;
    std::int64_t crowd_begin_ns_ = now_ns_;
    std::uint64_t crowd_width_ns_ = 1;
    timer_queue queue_;
    std::multimap<std::int64_t, checked_timer*> model_;
    std::deque<checked_timer> timers_;
    bool arming_allowed_ = true;
    int empty_turns_ = 0;
    int failed_line_ = 0;
    std::size_t fired_count_ = 0;
};

std::vector<std::uint64_t> seeds(std::size_t count) {
    if (const char* wanted = std::getenv("KEVRING_TEST_SEED"))
        return {std::strtoull(wanted, nullptr, 0)};
    std::random_device device;
    std::vector<std::uint64_t> all;
    for (std::size_t i = 0; i < count; ++i) all.push_back(std::uint64_t{device()} << 32 | device());
    return all;
}

}  // namespace

TEST_CASE("timers fire exactly in the order of a sorted map for random operations",
          "[runtime][timer]") {
    for (const std::uint64_t seed : seeds(60)) {
        checked_queue checked(seed);
        INFO("KEVRING_TEST_SEED=" << seed << ", " << checked.timer_count() << " timers");

        checked.run();

        INFO(__FILE__ << ":" << checked.failed_line() << " does not hold");
        REQUIRE(checked.failed_line() == 0);
        CHECK(checked.fired_count() > 0);  // or this run has tested nothing
    }
}
