#include <kevring/sendfile/send_queue.hpp>

#include <kevring/runtime/assert.hpp>

#include <utility>

namespace kevring {

send_queue::~send_queue() {
    if (fork_generation_ != detail::fork_generation()) return;  // its transfers are the parent's
    KEVRING_ASSERT(
        !busy_,
        "send_queue destroyed while a transfer uses it; await every transfer that names it first");
    KEVRING_ASSERT(!waiters_.linked(),
                   "send_queue destroyed while a transfer waits for it; await every transfer that "
                   "names it first");
}

void send_queue::release(std::error_code error) noexcept {
    KEVRING_ASSERT(busy_,
                   "send_queue released by a transfer that does not hold it; call release() once "
                   "after each acquire()");
    busy_ = false;
    if (error && !error_) error_ = error;
    while (waiters_.linked()) {
        auto& first = static_cast<acquire_operation&>(static_cast<waiter_link&>(*waiters_.next));
        first.wake(error_);
        if (error_) continue;  // all waiters fail
        busy_ = true;          // for the waiter that resumes: no other acquires before it
        return;
    }
}

bool send_queue::acquire_operation::start(std::coroutine_handle<> waiter,
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
    waiter_link::insert_before(queue_.waiters_);
    return true;
}

// The coroutine resumes later: the caller of release(), or of a stop, may be within any function.
void send_queue::acquire_operation::wake(std::error_code error) noexcept {
    KEVRING_ASSERT(
        !woken_,
        "internal error: a transfer was resumed twice; report it with the call that led to it");
    woken_ = true;
    error_ = error;
    waiter_link::unlink();
    loop_.schedule(*this);
}

void send_queue::acquire_operation::stopped(cancel_hook& hook, stop_cause cause) noexcept {
    auto& self = static_cast<acquire_operation&>(hook);
    if (self.woken_) return;  // it holds the slot, and checks for a stop itself
    self.wake(std::make_error_code(cause == stop_cause::deadline ? std::errc::timed_out
                                                                 : std::errc::operation_canceled));
}

void send_queue::acquire_operation::resumed(work& item) noexcept {
    auto& self = static_cast<acquire_operation&>(item);
    self.cancel_hook::unlink();
    self.waiter_.resume();  // last: the frame may be destroyed on return
}

}  // namespace kevring
