#include "connection_timeout.hpp"

#include "tcp_progress.hpp"

namespace httpd {

void connection_timeout::fired(kevring::timer_node& node) noexcept {
    auto& self = static_cast<connection_timeout&>(node);
    if (self.deadline_ns_ > self.loop_.now_ns() || self.made_progress())
        self.loop_.timers().arm(self, self.deadline_ns_);
    else
        self.scope_.request_stop(kevring::stop_cause::deadline);
}

bool connection_timeout::made_progress() noexcept {
    if (step_ns_ == 0) return false;
    const auto taken = acked_bytes(client_);
    if (!taken) {
        const double step_count =
            static_cast<double>(send_queue_bytes(client_)) / static_cast<double>(step_bytes_);
        const double waiting_ns = step_count * static_cast<double>(step_ns_);
        deadline_ns_ = kevring::add_ns(
            fallback_deadline_ns_, std::chrono::nanoseconds(static_cast<std::int64_t>(waiting_ns)));
        step_ns_ = 0;
        return deadline_ns_ > loop_.now_ns();
    }
    if (*taken < wanted_) return false;
    wanted_ = *taken + step_bytes_;
    deadline_ns_ = kevring::add_ns(loop_.now_ns(), std::chrono::nanoseconds(step_ns_));
    return true;
}

}  // namespace httpd
