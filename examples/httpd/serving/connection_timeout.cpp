#include "connection_timeout.hpp"

#include "tcp_progress.hpp"

namespace httpd {

void patience::fired(kevring::timer_node& node) noexcept {
    auto& self = static_cast<patience&>(node);
    if (self.deadline_ns_ > self.on_.now_ns() || self.earns_more())
        self.on_.timers().arm(self, self.deadline_ns_);
    else
        self.ends_.request_stop(kevring::stop_cause::deadline);
}

bool patience::earns_more() noexcept {
    if (step_ns_ == 0) return false;
    const auto taken = bytes_taken(client_);
    if (!taken) {
        const double step_count =
            static_cast<double>(bytes_waiting(client_)) / static_cast<double>(step_bytes_);
        const double waiting_ns = step_count * static_cast<double>(step_ns_);
        deadline_ns_ = kevring::add_ns(
            uncounted_ns_, std::chrono::nanoseconds(static_cast<std::int64_t>(waiting_ns)));
        step_ns_ = 0;
        return deadline_ns_ > on_.now_ns();
    }
    if (*taken < wanted_) return false;
    wanted_ = *taken + step_bytes_;
    deadline_ns_ = kevring::add_ns(on_.now_ns(), std::chrono::nanoseconds(step_ns_));
    return true;
}

}  // namespace httpd
