// posix_timers.cpp: timers that count their expiries, the type POSIX_TIMER.
#include "tests/kevent/model/model.hpp"

#include <sys/timerfd.h>

namespace kevent_model {
namespace {

using std::chrono::steady_clock;

constexpr std::chrono::milliseconds first_expiry{1};
constexpr std::chrono::milliseconds short_interval{2};
constexpr std::chrono::hours far_off{2};

/// Expires once if `interval` is 0.
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
    posix_timer(model_run& run, const ukevent& request, const period& when,
                steady_clock::time_point requested_at)
        : registration_model(run, request),
          when_(when),
          requested_at_(requested_at),
          began_(now()) {}

    bool fires_by_itself() const override {
        return !when_.is_far() && request.event != 0 && (when_.repeats() || counted_ == 0);
    }
    bool is_overdue() const override {
        return fires_by_itself() && when_.expiries_after(now() - began_) > counted_;
    }
    void modified(const ukevent&) override { list(); }

    void check_record(const ukevent& got) override {
        const std::uint32_t count = got.ret_data[0];
        KEVRING_MODEL_CHECK(run_, got.ret_flags == KEVENT_RET_DONE && got.ret_data[1] == 0);
        // A record without expiries is reported only after READY or MODIFY.
        KEVRING_MODEL_CHECK(run_, count != 0 || listed);
        counted_ += count;
        KEVRING_MODEL_CHECK(run_, counted_ <= when_.expiries_after(now() - requested_at_));
        if (count != 0)
            KEVRING_MODEL_CHECK(run_, counted_ >= when_.expiries_after(run_.called_at - began_));
    }
    void delivered(const ukevent&) override { nothing_left(); }

private:
    const period when_;
    const steady_clock::time_point requested_at_;
    const steady_clock::time_point began_;
    std::uint64_t counted_ = 0;
};

class posix_timers final : public origin_model {
public:
    explicit posix_timers(model_run& run) : origin_model(run) {}

    bool has_type(std::uint32_t type) const override { return type == KEVENT_POSIX_TIMER; }
    std::uint32_t random_event(std::uint32_t) override {
        return run_.below(2) == 0 ? 1 : KEVENT_MASK_ALL;
    }

    void act() override {
        if (run_.below(3) != 0) return;
        std::size_t count = 0;
        run_.each<posix_timer>([&](posix_timer&) { ++count; });
        if (count < 6) start();
    }

private:
    static timespec as_timespec(std::chrono::nanoseconds time) {
        return {time.count() / 1'000'000'000, time.count() % 1'000'000'000};
    }

    void start() {
        const bool repeats = run_.below(2) == 0;
        const bool is_far = run_.seed % 2 != 0 || run_.below(3) == 0;
        period when{is_far ? std::chrono::nanoseconds(far_off) : first_expiry, {}};
        if (repeats) when.interval = short_interval;
        // The wall clock may be set, so only timers of the far future use it.
        const clockid_t clock = is_far && run_.below(2) == 0 ? CLOCK_REALTIME : CLOCK_MONOTONIC;
        const bool is_absolute = run_.below(2) == 0;
        const std::uint64_t word = run_.random();
        const auto requested_at = now();

        std::chrono::nanoseconds first = when.first;
        if (is_absolute) {
            timespec time{};
            ::clock_gettime(clock, &time);
            first += std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
        }
        const itimerspec request{as_timespec(when.interval), as_timespec(first)};
        const long id =
            kevent_timer_create(run_.tested_queue->number(), clock, &request,
                                is_absolute ? TFD_TIMER_ABSTIME : 0, reinterpret_cast<void*>(word));
        run_.log(is_far ? "far timer" : "timer", repeats ? " with an interval: " : ": ", id);
        if (!KEVRING_MODEL_CHECK(run_, id > 0)) return;
        ukevent made = record(KEVENT_POSIX_TIMER, 0, KEVENT_MASK_ALL,
                              KEVENT_REQ_ALWAYS_QUEUE | (repeats ? 0 : KEVENT_REQ_ONESHOT));
        made.id.raw_u64 = static_cast<std::uint64_t>(id);
        made.user_u64 = word;
        KEVRING_MODEL_CHECK(run_, run_.all.count(model_run::key_of(made)) == 0);
        keep(std::make_unique<posix_timer>(run_, made, when, requested_at));
    }
};

}  // namespace

std::unique_ptr<origin_model> make_posix_timers(model_run& run) {
    return std::make_unique<posix_timers>(run);
}

}  // namespace kevent_model
