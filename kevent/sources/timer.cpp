// timer.cpp: periodic timers of the steady clock.
#include <kevring/kevent/detail/source.hpp>

#include <cerrno>
#include <limits>

namespace kevring::detail {
namespace {

constexpr std::uint32_t ns_per_s = 1'000'000'000;
constexpr std::int64_t ns_per_ms = 1'000'000;

// The grid of expiries begins when the timer is added, and stays where it is whatever the program
// does. While an expiry waits to be collected, the timer sleeps; the record then says how many
// there were.
//
// ret_data[0]   the time of the last expiry on the steady clock, in ms, modulo 2^32
// ret_data[1]   expiries since the last record
class timer_source final : public source, private timer_node {
public:
    timer_source(source_host& host, registration& target) noexcept
        : source(host, target),
          timer_node(&timer_source::fired),
          period_ns_(std::int64_t{target.record.id.raw[0]} * ns_per_s + target.record.id.raw[1]),
          last_ns_(host.now_ns()) {}
    ~timer_source() override { disarm(); }

    int arm() override {
        if (event() == KEVENT_MASK_EMPTY)
            disarm();
        else if (!timer_node::armed())
            start();
        return 0;
    }
    readiness test() override { return readiness::ready; }  // so MODIFY fires it
    readiness test_on_add() override { return readiness::not_ready; }
    void disarm() noexcept override {
        if (timer_node::armed()) host_.timers().disarm(*this);
    }

    bool before_collect() noexcept override {
        const std::int64_t count = (host_.now_ns() - last_ns_) / period_ns_;
        last_ns_ += count * period_ns_;
        const auto shown = count < std::numeric_limits<std::uint32_t>::max()
                               ? static_cast<std::uint32_t>(count)
                               : std::numeric_limits<std::uint32_t>::max();
        set_results(static_cast<std::uint32_t>(last_ns_ / ns_per_ms), shown);
        if (registration_.armed && !timer_node::armed() && event() != KEVENT_MASK_EMPTY) start();
        return true;
    }

private:
    void start() noexcept {
        const std::int64_t past = (host_.now_ns() - last_ns_) / period_ns_;
        const std::int64_t grid_ns = last_ns_ + past * period_ns_;
        const bool representable = period_ns_ <= std::numeric_limits<std::int64_t>::max() - grid_ns;
        host_.timers().arm(
            *this, representable ? grid_ns + period_ns_ : std::numeric_limits<std::int64_t>::max());
    }

    static void fired(timer_node& node) noexcept {
        auto& self = static_cast<timer_source&>(node);
        self.host_.report(self.registration_, readiness::ready);
    }

    const std::int64_t period_ns_;
    std::int64_t last_ns_;  // the expiry that was reported last, or when it was added
};

}  // namespace

result<std::unique_ptr<source>> make_timer_source(source_host& host, registration& target) {
    const kevent_id& period = target.record.id;
    if (period.raw_u64 == 0 || period.raw[1] >= ns_per_s) return error_from(-EINVAL);
    auto made = std::make_unique<timer_source>(host, target);
    // Last: what it opens stays with the queue.
    if (const int failure = host.prepare_timers(); failure != 0) return error_from(failure);
    return made;
}

}  // namespace kevring::detail
