#include <kevring/runtime/submit.hpp>

#include <memory>
#include <system_error>

namespace kevring::detail {

void remote_task_base::begin(cancel_scope& scope) noexcept {
    const stop_cause cause = states_.begin(scope);
    if (cause != stop_cause::none) scope.request_stop(cause);
}

void remote_task_base::refuse() noexcept {
    set_failure(std::make_exception_ptr(std::system_error(
        std::make_error_code(std::errc::operation_not_permitted),
        "kevring: submit() to a ring of the parent process; make a new ring after fork()")));
    states_.end();
}

void remote_task_base::request_stop(stop_cause cause) noexcept {
    states_.request_stop(cause, *this, [this] { kept_ = shared_from_this(); });
}

void remote_task_base::stop_arrived(work& item) noexcept {
    auto& self = static_cast<remote_task_base&>(item);
    stop_cause cause = stop_cause::none;
    // first: the thread that posted leaves the mutex, and with it kept_
    cancel_scope* const scope = self.states_.stopped_scope(cause);
    const std::shared_ptr<remote_task_base> kept = std::move(self.kept_);
    if (scope != nullptr) scope->request_stop(cause);
}

bool remote_join::start(std::coroutine_handle<> waiter, cancel_scope* scope) noexcept {
    ring* const loop = scope != nullptr ? &scope->loop() : ring::current();
    KEVRING_ASSERT(loop != nullptr && loop->on_ring_thread(),
                   "join() awaited on a thread that does not drive its ring; call get() there");
    KEVRING_ASSERT(!waiter_, "join() awaited twice; join each submitted_task once");
    if (scope == nullptr) scope = &loop->root_scope();
    waiter_ = waiter;
    loop->expect_post();
    if (!joined_.watch(*loop, *this)) {
        loop->expected_post_ended();
        if (loop->spend_inline_budget()) return false;
        loop->schedule(*this);
        return true;
    }
    // A stop comes from this thread, so the hook may follow the watch.
    scope->add(*this);
    if (scope->stop_requested()) joined_.request_stop(scope->cause());
    return true;
}

void remote_join::stopped(cancel_hook& hook, stop_cause cause) noexcept {
    static_cast<remote_join&>(hook).joined_.request_stop(cause);
}

void remote_join::resumed(work& item) noexcept {
    auto& self = static_cast<remote_join&>(item);
    static_cast<void>(self.joined_.ended());  // first: the thread that posted leaves the mutex
    self.cancel_hook::unlink();
    self.waiter_.resume();  // last: the frame, and this object in it, may be destroyed
}

namespace {

// Starts a submitted task on the thread of its loop.
struct remote_start : work {
    remote_start(detached_task first, cancel_scope& outer) noexcept
        : work(begin), started(first), scope(outer) {}
    static void begin(work& item) noexcept {
        const std::unique_ptr<remote_start> own(static_cast<remote_start*>(&item));
        own->started.start(own->scope);
    }
    const detached_task started;
    cancel_scope& scope;
};

}  // namespace

void start_remote(ring& loop, remote_task_base& state, detached_task started) {
    if (loop.created_by_parent_process()) {
        started.frame.destroy();
        state.refuse();
        return;
    }
    remote_start* start = nullptr;
    try {
        start = new remote_start(started, loop.root_scope());
    } catch (...) {
        started.frame.destroy();
        throw;
    }
    loop.post(*start);
}

}  // namespace kevring::detail
