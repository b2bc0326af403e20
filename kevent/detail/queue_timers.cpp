// queue_timers.cpp: see queue_timers.hpp.
#include <kevring/kevent/detail/queue_timers.hpp>

#include <kevring/runtime/kernel.hpp>

#include <algorithm>
#include <cstddef>

namespace kevring::detail {
namespace {

constexpr std::size_t fired_max = 4096;  // in one step under the queue's lock

std::int64_t now_ns() noexcept { return kernel::real().steady_ns(); }

}  // namespace

timer_queue& queue_timers::timers() {
    if (timers_ == nullptr) timers_ = std::make_unique<timer_queue>(now_ns());
    return *timers_;
}

int queue_timers::prepare() {
    timers();
    return port_.create_timer();
}

bool queue_timers::expire_due() noexcept {
    const std::int64_t time_ns = now_ns();
    if (timers_->next_deadline_ns() > time_ns) return false;
    timers_->expire(time_ns, fired_max);
    return true;
}

void queue_timers::arm_port() noexcept {
    const std::int64_t next_ns = timers_->next_deadline_ns();
    // A failure leaves the port's timer as it was; the next call tries again.
    if (port_.arm_timer(std::max<std::int64_t>(next_ns, 1)) == 0) deadline_ns_ = next_ns;
}

}  // namespace kevring::detail
