// signals.cpp: signals that are queued, the type SIGNAL.
#include "tests/kevent/model/model.hpp"

#include <deque>

namespace kevent_model {
namespace {

using values = std::deque<int>;  // of one signal, in the order in which they are queued

class taker final : public registration_model {
public:
    taker(model_run& run, const ukevent& request, values& waiting)
        : registration_model(run, request), waiting_(waiting) {}

    void check_pending() {
        if (!waiting_.empty() && request.event != 0) raise(expected::must);
    }
    bool is_due() const override {
        if (event != expected::must) return false;
        if (has(KEVENT_REQ_LAST_CHECK)) return !waiting_.empty() && request.event != 0;
        return (listed && !may_be_unlisted_) || !waiting_.empty();
    }
    void marked() override {
        list();
        may_be_unlisted_ = false;
    }
    void dropped_maybe() override {
        registration_model::dropped_maybe();
        may_be_unlisted_ = true;  // a signal that another queue takes does not list it
    }
    void modified(const ukevent&) override { check_pending(); }
    void check_record(const ukevent& got) override {
        KEVRING_MODEL_CHECK(run_, event != expected::none);
        KEVRING_MODEL_CHECK(run_, (got.ret_flags & KEVENT_RET_BROKEN) == 0);
        if (waiting_.empty()) {
            KEVRING_MODEL_CHECK(run_, listed && got.ret_data[0] == 0 && got.ret_data[1] == 0);
            return;
        }
        KEVRING_MODEL_CHECK(run_, got.ret_data[0] == static_cast<std::uint32_t>(::getpid()));
        KEVRING_MODEL_CHECK(run_, error_of(got) == waiting_.front());
        waiting_.pop_front();
    }
    void delivered(const ukevent&) override {
        nothing_left();
        check_pending();
    }

private:
    values& waiting_;
    bool may_be_unlisted_ = false;
};

class signals final : public origin_model {
public:
    explicit signals(model_run& run) : origin_model(run) {
        ::sigemptyset(&set_);
        for (std::size_t i = 0; i < waiting_.size(); ++i) ::sigaddset(&set_, number(i));
        ::pthread_sigmask(SIG_BLOCK, &set_, &before_);
    }
    ~signals() override {
        const timespec at_once{};
        while (::sigtimedwait(&set_, nullptr, &at_once) > 0) {}
        ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
    }

    bool has_type(std::uint32_t type) const override { return type == KEVENT_SIGNAL; }
    std::optional<ukevent> random_request() override {
        ukevent made = record(KEVENT_SIGNAL, 0, 0);
        made.id.raw_u64 =
            static_cast<std::uint64_t>(number(run_.below(waiting_.size()))) | KEVENT_SIGNAL_NOMASK;
        return made;
    }
    std::uint32_t random_event(std::uint32_t) override { return KEVENT_SIGNAL_DELIVERY; }
    std::optional<ukevent> add(const ukevent& request) override {
        const auto index =
            static_cast<std::size_t>(static_cast<int>(request.id.raw[0]) - number(0));
        taker& kept = keep(std::make_unique<taker>(run_, request, waiting_[index]));
        kept.check_pending();
        if (kept.has(KEVENT_REQ_READY)) kept.marked();
        return std::nullopt;
    }
    void act() override {
        const std::size_t index = run_.below(waiting_.size());
        if (run_.below(4) == 0) return take_elsewhere(index);
        if (waiting_[index].size() > 10) return;
        run_.log("signal ", number(index), " value ", ++last_value_);
        if (!KEVRING_MODEL_CHECK(run_,
                                 ::sigqueue(::getpid(), number(index), sigval{last_value_}) == 0))
            return;
        waiting_[index].push_back(last_value_);
        run_.each<taker>([](taker& one) { one.check_pending(); });
    }

private:
    static int number(std::size_t index) { return SIGRTMIN + 5 + static_cast<int>(index); }

    void take_elsewhere(std::size_t index) {
        sigset_t only;
        ::sigemptyset(&only);
        ::sigaddset(&only, number(index));
        const timespec at_once{};
        siginfo_t info{};
        const bool is_taken = ::sigtimedwait(&only, &info, &at_once) > 0;
        run_.log("another takes ", number(index), " value ",
                 is_taken ? info.si_value.sival_int : 0);
        if (!KEVRING_MODEL_CHECK(run_, is_taken == !waiting_[index].empty()) || !is_taken) return;
        KEVRING_MODEL_CHECK(run_, info.si_value.sival_int == waiting_[index].front());
        waiting_[index].pop_front();
    }

    std::array<values, 2> waiting_;
    sigset_t set_;
    sigset_t before_;
    int last_value_ = 0;
};

}  // namespace

std::unique_ptr<origin_model> make_signals(model_run& run) {
    return std::make_unique<signals>(run);
}

}  // namespace kevent_model
