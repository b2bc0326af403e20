#include <kevring/runtime/detail/stop_bridge.hpp>

#include <kevring/runtime/ring.hpp>

namespace kevring::detail {

void stop_bridge::requested() noexcept {
    if (loop_.on_ring_thread()) {
        stopped_(target_);
        return;
    }
    posted_ = true;  // first: once posted, this thread must not touch the bridge
    loop_.post(delivery_);
}

void stop_bridge::delivered(work& item) noexcept {
    stop_bridge& self = static_cast<delivery&>(item).bridge;
    self.delivered_ = true;
    (self.closing_ ? self.closed_ : self.stopped_)(self.target_);  // last: `self` may be gone
}

bool stop_bridge::close() noexcept {
    callback_.reset();  // waits until a requested() that runs elsewhere has returned
    closing_ = true;
    return !posted_ || delivered_;
}

}  // namespace kevring::detail
