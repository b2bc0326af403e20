// posix_timers.cpp: timers that count their expiries, the type POSIX_TIMER.
#include "tests/kevent/model/model.hpp"

#include <sys/timerfd.h>

namespace kevent_model {
namespace {

using std::chrono::steady_clock;

constexpr std::chrono::milliseconds first_expiry{1};
constexpr std::chrono::milliseconds short_interval{2};
constexpr std::chrono::hours far_off{2};

/// `interval` of 0: it expires once.
struct period {
    std::chrono::nanoseconds first;
    std::chrono::nanoseconds interval;

    bool is_far() const { return first == far_off; }
    bool repeats() const { return interval.count() != 0; }
    std::uint64_t expiries_after(std::chrono::nanoseconds passed) const {
        if (passed < first) return 0;
        return repeats() ? 1 + static_cast<std::uint64_t>((passed - first) / interval) : 1;
    }
};

class posix_timer final : public registration_model {
public:
    posix_timer(run& in, const ukevent& request, const period& when,
                steady_clock::time_point asked_for)
        : registration_model(in, request), when_(when), asked_for_(asked_for), began_(now()) {}

    bool rings_by_itself() const override {
        return !when_.is_far() && request.event != 0 && (when_.repeats() || counted_ == 0);
    }
    bool is_overdue() const override {
        return rings_by_itself() && when_.expiries_after(now() - began_) > counted_;
    }
    void modified(const ukevent&) override { list(); }

    void check_record(const ukevent& got) override {
        const std::uint32_t count = got.ret_data[0];
        KEVRING_MODEL_CHECK(in_, got.ret_flags == KEVENT_RET_DONE && got.ret_data[1] == 0);
        // Only who has asked for it is told that nothing has expired.
        KEVRING_MODEL_CHECK(in_, count != 0 || listed);
        counted_ += count;
        KEVRING_MODEL_CHECK(in_, counted_ <= when_.expiries_after(now() - asked_for_));
        if (count != 0)
            KEVRING_MODEL_CHECK(in_, counted_ >= when_.expiries_after(in_.asked_at - began_));
    }
    void delivered(const ukevent&) override { nothing_left(); }

private:
    const period when_;
    const steady_clock::time_point asked_for_;
    const steady_clock::time_point began_;
    std::uint64_t counted_ = 0;
};

class posix_timers final : public origins {
public:
    explicit posix_timers(run& in) : origins(in) {}

    bool has_type(std::uint32_t type) const override { return type == KEVENT_POSIX_TIMER; }
    std::uint32_t random_event(std::uint32_t) override {
        return in_.below(2) == 0 ? 1 : KEVENT_MASK_ALL;
    }

    void act() override {
        if (in_.below(3) != 0) return;
        std::size_t count = 0;
        in_.each<posix_timer>([&](posix_timer&) { ++count; });
        if (count < 6) start();
    }

private:
    static timespec as_timespec(std::chrono::nanoseconds time) {
        return {time.count() / 1'000'000'000, time.count() % 1'000'000'000};
    }

    void start() {
        const bool repeats = in_.below(2) == 0;
        const bool is_far = in_.seed % 2 != 0 || in_.below(3) == 0;
        period when{is_far ? std::chrono::nanoseconds(far_off) : first_expiry, {}};
        if (repeats) when.interval = short_interval;
        // A clock that somebody may set says little about one that is due soon.
        const clockid_t clock = is_far && in_.below(2) == 0 ? CLOCK_REALTIME : CLOCK_MONOTONIC;
        const bool by_clock = in_.below(2) == 0;
        const std::uint64_t word = in_.random();
        const auto asked_for = now();

        std::chrono::nanoseconds first = when.first;
        if (by_clock) {
            timespec at{};
            ::clock_gettime(clock, &at);
            first += std::chrono::seconds(at.tv_sec) + std::chrono::nanoseconds(at.tv_nsec);
        }
        const itimerspec request{as_timespec(when.interval), as_timespec(first)};
        const long id =
            kevent_timer_create(in_.door->number(), clock, &request,
                                by_clock ? TFD_TIMER_ABSTIME : 0, reinterpret_cast<void*>(word));
        in_.log(is_far ? "far timer" : "timer", repeats ? " with an interval: " : ": ", id);
        if (!KEVRING_MODEL_CHECK(in_, id > 0)) return;
        ukevent made = record(KEVENT_POSIX_TIMER, 0, KEVENT_MASK_ALL,
                              KEVENT_REQ_ALWAYS_QUEUE | (repeats ? 0 : KEVENT_REQ_ONESHOT));
        made.id.raw_u64 = static_cast<std::uint64_t>(id);
        made.user_u64 = word;
        KEVRING_MODEL_CHECK(in_, in_.all.count(run::key_of(made)) == 0);
        keep(std::make_unique<posix_timer>(in_, made, when, asked_for));
    }
};

}  // namespace

std::unique_ptr<origins> make_posix_timers(run& in) { return std::make_unique<posix_timers>(in); }

}  // namespace kevent_model
