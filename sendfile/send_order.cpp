#include <kevring/sendfile/send_order.hpp>

#include <kevring/runtime/assert.hpp>

#include <utility>

namespace kevring {

send_order::~send_order() {
    KEVRING_ASSERT(
        !taken_,
        "send_order destroyed while a transfer uses it; await every transfer that names it first");
    KEVRING_ASSERT(!waiters_.linked(),
                   "send_order destroyed while a transfer waits for it; await every transfer that "
                   "names it first");
}

void send_order::leave(std::error_code error) noexcept {
    KEVRING_ASSERT(taken_,
                   "send_order left by a transfer that does not hold it; call leave() once after "
                   "each enter()");
    taken_ = false;
    if (error && !error_) error_ = error;
    while (waiters_.linked()) {
        auto& first = static_cast<enter_operation&>(static_cast<waiter_link&>(*waiters_.next));
        first.wake(error_);
        if (error_) continue;  // all of them hear of it
        taken_ = true;         // for the one that has been woken: nobody gets in between
        return;
    }
}

bool send_order::enter_operation::start(std::coroutine_handle<> waiter,
                                        cancel_scope* scope) noexcept {
    if (scope != nullptr) {
        if (scope->stop_requested()) {
            error_ = std::make_error_code(scope->cause() == stop_cause::deadline
                                              ? std::errc::timed_out
                                              : std::errc::operation_canceled);
            return false;
        }
        scope->add(*this);
    }
    waiter_ = waiter;
    waiter_link::insert_before(of_.waiters_);
    return true;
}

// The coroutine runs later: whoever leaves, or stops, may be in the middle of anything.
void send_order::enter_operation::wake(std::error_code error) noexcept {
    KEVRING_ASSERT(
        !woken_,
        "internal error: a transfer was resumed twice; report it with the call that led to it");
    woken_ = true;
    error_ = error;
    waiter_link::unlink();
    ring_.schedule(*this);
}

void send_order::enter_operation::stopped(cancel_hook& hook, stop_cause cause) noexcept {
    auto& self = static_cast<enter_operation&>(hook);
    if (self.woken_) return;  // it has the turn already, and finds the stop by itself
    self.wake(std::make_error_code(cause == stop_cause::deadline ? std::errc::timed_out
                                                                 : std::errc::operation_canceled));
}

void send_order::enter_operation::resumed(work& item) noexcept {
    auto& self = static_cast<enter_operation&>(item);
    self.cancel_hook::unlink();
    self.waiter_.resume();  // last: the frame may be gone on return
}

}  // namespace kevring
