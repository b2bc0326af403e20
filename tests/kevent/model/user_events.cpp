// user_events.cpp: user events and timers of the model, the types UNOTIFY and TIMER.
#include "tests/kevent/model/model.hpp"

namespace kevent_model {
namespace {

constexpr std::chrono::milliseconds short_period{1};

class user_event_model final : public registration_model {
public:
    user_event_model(model_run& run, const ukevent& request, std::uint64_t& last_order,
                     std::uint64_t& last_seen)
        : registration_model(run, request), last_order_(last_order), last_seen_(last_seen) {}

    void fire() {
        if (event != expected::must) order_ = ++last_order_;
        list();
    }
    void marked() override {
        fire();
        ++marked_count_;
    }
    void modified(const ukevent&) override { fire(); }
    void check_record(const ukevent& got) override {
        KEVRING_MODEL_CHECK(run_, event != expected::none);
        KEVRING_MODEL_CHECK(run_, order_ > last_seen_);  // in the order in which they became ready
        KEVRING_MODEL_CHECK(run_, got.ret_data[1] == marked_count_);
        last_seen_ = order_;
    }
    void delivered(const ukevent&) override {
        nothing_left();
        marked_count_ = 0;
    }

private:
    std::uint64_t& last_order_;
    std::uint64_t& last_seen_;
    std::uint64_t order_ = 0;
    std::uint32_t marked_count_ = 0;
};

class timer_model final : public registration_model {
public:
    timer_model(model_run& run, const ukevent& request) : registration_model(run, request) {}

    bool fires_by_itself() const override { return request.id.raw[0] == 0 && request.event != 0; }
    bool is_overdue() const override { return fires_by_itself() && due_ <= now(); }
    void modified(const ukevent&) override {
        list();
        due_ = now() + 2 * short_period;
    }
    void check_record(const ukevent&) override {
        KEVRING_MODEL_CHECK(run_, event != expected::none || fires_by_itself());
    }
    void delivered(const ukevent&) override {
        nothing_left();
        due_ = now() + 2 * short_period;
    }

private:
    std::chrono::steady_clock::time_point due_ = now() + 2 * short_period;
};

class user_events final : public origin_model {
public:
    explicit user_events(model_run& run) : origin_model(run) {}

    bool has_type(std::uint32_t type) const override {
        return type == KEVENT_UNOTIFY || type == KEVENT_TIMER;
    }
    std::optional<ukevent> random_request() override {
        if (run_.below(2) == 0) return user_event(run_.below(6));
        ukevent made = record(KEVENT_TIMER, 0, 0);
        // Due soon, or not during this run.
        if (run_.seed % 2 == 0 && run_.below(2) == 0)
            made.id.raw[1] = static_cast<std::uint32_t>(
                std::chrono::nanoseconds(short_period).count() + run_.below(2));
        else
            made.id.raw[0] = static_cast<std::uint32_t>(5000 + run_.below(2));
        return made;
    }
    std::uint32_t random_event(std::uint32_t) override { return 1; }
    std::optional<ukevent> add(const ukevent& request) override {
        if (request.type == KEVENT_TIMER) {
            auto& kept = keep(std::make_unique<timer_model>(run_, request));
            if (kept.has(KEVENT_REQ_READY)) kept.list();
        } else {
            auto& kept =
                keep(std::make_unique<user_event_model>(run_, request, last_order_, last_seen_));
            if (kept.has(KEVENT_REQ_READY | KEVENT_REQ_ALWAYS_QUEUE)) kept.fire();
        }
        return std::nullopt;
    }
    void act() override {}

private:
    std::uint64_t last_order_ = 0;
    std::uint64_t last_seen_ = 0;
};

}  // namespace

std::unique_ptr<origin_model> make_user_events(model_run& run) {
    return std::make_unique<user_events>(run);
}

}  // namespace kevent_model
