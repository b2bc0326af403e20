#include <kevring/runtime/sleep.hpp>

namespace kevring {

bool sleep_operation::start(std::coroutine_handle<> waiter, cancel_scope* scope) noexcept {
    KEVRING_ASSERT(
        loop_.on_ring_thread(),
        "sleep awaited on a thread that does not drive its ring; await it in a task of that ring");
    KEVRING_ASSERT(!waiter_, "sleep awaited twice; create one sleep per await");
    if (scope == nullptr) scope = &loop_.root_scope();  // a coroutine of others
    cause_ = scope->cause();
    if (loop_.created_by_parent_process()) [[unlikely]] {
        refused_ = true;
        return false;
    }
    if (cause_ != stop_cause::none) {
        if (loop_.spend_inline_budget()) return false;
        waiter_ = waiter;  // a coroutine that ignores its stop must not keep the loop
        loop_.schedule(*this);
        return true;
    }
    scope->add(*this);
    waiter_ = waiter;
    loop_.timers().arm(*this, deadline_ns_);
    return true;
}

void sleep_operation::passed(timer_node& node) noexcept {
    auto& self = static_cast<sleep_operation&>(node);
    self.cancel_hook::unlink();
    self.waiter_.resume();  // last: the frame may be gone on return
}

// A stop may come from anywhere, also from a frame that is running: the sleeper resumes later.
void sleep_operation::stopped(cancel_hook& hook, stop_cause cause) noexcept {
    auto& self = static_cast<sleep_operation&>(hook);
    if (!self.loop_.timers().disarm(self)) return;  // it has been stopped already, or fires now
    self.cause_ = cause;
    self.loop_.schedule(self);
}

void sleep_operation::resumed(work& item) noexcept {
    auto& self = static_cast<sleep_operation&>(item);
    self.cancel_hook::unlink();
    self.waiter_.resume();  // last: the frame may be gone on return
}

sleep_operation sleep_for(clamped_duration duration) noexcept {
    KEVRING_ASSERT(ring::current() != nullptr,
                   "sleep_for() called on a thread that drives no ring; call it in a task that "
                   "run() or spawn() started");
    ring& loop = *ring::current();
    return {loop, add_ns(loop.now_ns(), duration)};
}

sleep_operation sleep_until(clamped_time deadline) noexcept {
    KEVRING_ASSERT(ring::current() != nullptr,
                   "sleep_until() called on a thread that drives no ring; call it in a task that "
                   "run() or spawn() started");
    return {*ring::current(), to_ns(deadline)};
}

}  // namespace kevring
