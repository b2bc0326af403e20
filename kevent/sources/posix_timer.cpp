// posix_timer.cpp: see posix_timer.hpp.
#include <kevring/kevent/sources/posix_timer.hpp>

#include <kevring/kevent/sources/fd_source.hpp>

#include <algorithm>
#include <cerrno>
#include <limits>

#include <poll.h>
#include <sys/timerfd.h>
#include <unistd.h>

namespace kevring::detail {
namespace {

// ret_data[0]   expiries since the last record; more than one is what POSIX calls overrun
class posix_timer_source final : public fd_source {
public:
    posix_timer_source(source_host& host, registration& target, hidden_fd timer) noexcept
        : fd_source(host, target), asked_for_(target.has(KEVENT_REQ_READY)) {
        set_watched(std::move(timer));
    }

    // As with TIMER, so MODIFY fires it.
    readiness test() override {
        asked_for_ = true;
        return readiness::ready;
    }
    pollfd poll_question() const noexcept override { return {-1, 0, 0}; }
    readiness last_check() override { return readiness::ready; }  // before_collect() reads it
    void on_marked_ready() noexcept override { asked_for_ = true; }
    readiness test_on_add() override { return readiness::not_ready; }
    bool arm_reports_readiness() const noexcept override { return false; }

    bool before_collect() noexcept override {
        std::uint64_t count = 0;
        const bool any = ::read(held().number(), &count, sizeof count) == sizeof count;
        constexpr std::uint64_t most = std::numeric_limits<std::uint32_t>::max();
        set_results(any ? static_cast<std::uint32_t>(std::min(count, most)) : 0, 0);
        // A report of expiries that the last record has counted is none.
        return std::exchange(asked_for_, false) || any;
    }

private:
    std::uint32_t wanted_bits() const noexcept override { return POLLIN; }
    readiness evaluate(std::uint32_t poll_bits) noexcept override {
        return (poll_bits & POLLIN) != 0 ? readiness::ready : readiness::not_ready;
    }

    bool asked_for_;  // by READY or MODIFY
};

bool expires(const itimerspec& when) noexcept {
    return when.it_value.tv_sec != 0 || when.it_value.tv_nsec != 0;
}

}  // namespace

result<std::unique_ptr<source>> make_posix_timer_source(source_host& host, registration& target,
                                                        int clock, const itimerspec& when,
                                                        int flags) {
    if (!expires(when)) return error_from(-EINVAL);
    hidden_fd timer = hidden_fd::open(
        [&]() noexcept { return ::timerfd_create(clock, TFD_CLOEXEC | TFD_NONBLOCK); });
    if (!timer) return error_from_errno();
    if (::timerfd_settime(timer.number(), flags, &when, nullptr) != 0) return error_from_errno();
    return std::make_unique<posix_timer_source>(host, target, std::move(timer));
}

}  // namespace kevring::detail
