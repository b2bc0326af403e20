#include <kevring/runtime/operation.hpp>

#include <kevring/runtime/detail/frame_pool.hpp>
#include <kevring/runtime/detail/stop_bridge.hpp>

#include <cerrno>
#include <new>

namespace kevring {
namespace {

// From the frames of this thread: a request with a stop_token allocates nothing once they are warm.
void* bridge_memory() noexcept {
    try {
        return detail::allocate_frame(sizeof(detail::stop_bridge));
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
}

}  // namespace

void operation::bridge_deleter::operator()(detail::stop_bridge* bridge) const noexcept {
    bridge->~stop_bridge();
    detail::free_frame(bridge, sizeof *bridge);
}

// Hot path: no allocation, no mutex, no system call.

bool operation::start(std::coroutine_handle<> waiter, cancel_scope* scope,
                      detail::call_site site) noexcept {
    KEVRING_ASSERT_AT(loop_.on_ring_thread(),
                      "operation awaited on a thread that does not drive its ring; await it in a "
                      "task of that ring",
                      site);
    KEVRING_ASSERT_AT(!waiter_, "operation awaited twice; create one operation per await", site);
    site_ = site;
    if (scope == nullptr) scope = &loop_.root_scope();  // a coroutine of others
    if (loop_.created_by_parent_process()) [[unlikely]] {
        res_ = -EPERM;
        return false;
    }
    if (scope->stop_requested()) {
        cause_ = scope->cause();
        if (loop_.spend_inline_budget()) return false;
        slot = nullptr;    // another await may hold it
        waiter_ = waiter;  // a coroutine that ignores its stop must not keep the loop
        in_flight_ = true;
        loop_.refuse(*this);
        return true;
    }
    if (!acquire_slot()) {
        refuse(EALREADY);
        return false;
    }
    void* memory = nullptr;  // of the bridge
    if (stop_.stop_possible()) [[unlikely]] {
        memory = bridge_memory();
        if (memory == nullptr) {
            release_slot();
            refuse(ENOMEM);
            return false;
        }
    }
    scope->add(*this);
    waiter_ = waiter;
    in_flight_ = true;
    loop_.queue(*this);  // cannot fail: a full submission queue is flushed first
    // after queue(), for (3)
    if (memory != nullptr) [[unlikely]]
        bridge_.reset(new (memory)
                          detail::stop_bridge(loop_, stop_, this, token_stopped, bridge_closed));
    return true;
}

void operation::complete(std::int32_t res, std::uint32_t) noexcept {
    res_ = res;
    in_flight_ = false;
    release_slot();
    unlink();                                  // first: no stop may reach a finished operation
    if (bridge_ && !bridge_->close()) return;  // a stop from another thread is in transit
    resume();
}

void operation::resume() noexcept {
    bridge_.reset();
    waiter_.resume();  // last: the frame, and this object in it, may be gone on return
}

bool detail::is_inherited(const slot_holder& holder) noexcept {
    return operation::is_inherited(holder);
}

// Stops.

void operation::cancel_in_flight(cancel_hook& hook, stop_cause cause) noexcept {
    auto& self = static_cast<operation&>(hook);
    self.cause_ = cause;
    self.loop_.queue_cancel(self);
}

void operation::token_stopped(void* self) noexcept {
    auto& stopped = *static_cast<operation*>(self);
    stopped.cause_ = stop_cause::stopped;
    stopped.loop_.queue_cancel(stopped);
}

void operation::slot_cancelled(detail::slot_holder& holder) noexcept {
    cancel_in_flight(static_cast<operation&>(holder), stop_cause::stopped);
}

void operation::bridge_closed(void* self) noexcept { static_cast<operation*>(self)->resume(); }

}  // namespace kevring
