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

void queue_timers::on_expired() noexcept {
    if (timers_ == nullptr) return;
    timers_->expire(now_ns(), fired_max);
    deadline_ns_ = expired;
}

// One step moves a bounded number of timers that are due soon, before it reaches the first.
bool queue_timers::expire_rest() noexcept {
    if (deadline_ns_ != expired || timers_->next_deadline_ns() > now_ns()) return false;
    timers_->expire(now_ns(), fired_max);
    return true;
}

void queue_timers::arm_port() noexcept {
    const std::int64_t next_ns = timers_->next_deadline_ns();
    // A failure leaves the port's timer as it was; the next call tries again.
    if (port_.arm_timer(std::max<std::int64_t>(next_ns, 1)) == 0) deadline_ns_ = next_ns;
}

}  // namespace kevring::detail
