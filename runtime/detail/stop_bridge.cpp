#include <kevring/runtime/detail/stop_bridge.hpp>

#include <kevring/runtime/ring.hpp>

namespace kevring::detail {

void stop_bridge::requested() noexcept {
    if (ring_.on_ring_thread()) {
        stopped_(target_);
        return;
    }
    travelling_ = true;  // first: once posted, this thread must not touch the bridge
    ring_.post(arrival_);
}

void stop_bridge::arrived(work& item) noexcept {
    stop_bridge& self = static_cast<arrival&>(item).bridge;
    self.arrived_ = true;
    (self.closing_ ? self.closed_ : self.stopped_)(self.target_);  // last: `self` may be gone
}

bool stop_bridge::close() noexcept {
    callback_.reset();  // waits until a requested() that runs elsewhere has returned
    closing_ = true;
    return !travelling_ || arrived_;
}

}  // namespace kevring::detail
