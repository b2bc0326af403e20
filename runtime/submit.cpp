#include <kevring/runtime/submit.hpp>

#include <memory>
#include <system_error>

namespace kevring::detail {

void remote_task_base::begin(cancel_scope& scope) noexcept {
    stop_cause cause = stop_cause::none;
    {
        const thread_lock lock(mutex_);
        scope_ = &scope;
        cause = cause_;
    }
    if (cause != stop_cause::none) scope.request_stop(cause);
}

void remote_task_base::end() noexcept {
    const thread_lock lock(mutex_);
    loop_ = nullptr;
    scope_ = nullptr;
    ended_condition_.notify_all();
    // The ring of the waiter stays until this post has been made, and the waiter keeps this object
    // until it has locked the mutex.
    if (waiter_ != nullptr) waiting_loop_->post_expected(*waiter_);
}

void remote_task_base::refuse() noexcept {
    set_failure(std::make_exception_ptr(std::system_error(
        std::make_error_code(std::errc::operation_not_permitted),
        "kevring: submit() to a ring of the parent process; make a new ring after fork()")));
    const thread_lock lock(mutex_);
    loop_ = nullptr;
}

bool remote_task_base::ended() noexcept {
    const thread_lock lock(mutex_);
    return loop_ == nullptr;
}

void remote_task_base::wait() noexcept {
    thread_lock lock(mutex_);
    while (loop_ != nullptr) ended_condition_.wait(lock);
}

bool remote_task_base::watch(ring& waiting, work& item) noexcept {
    const thread_lock lock(mutex_);
    if (loop_ == nullptr) return false;
    waiting_loop_ = &waiting;
    waiter_ = &item;
    return true;
}

// A task that has not ended keeps its ring: the post under the mutex reaches a ring that exists.
void remote_task_base::request_stop(stop_cause cause) noexcept {
    const thread_lock lock(mutex_);
    if (loop_ == nullptr || cause_ != stop_cause::none) return;
    cause_ = cause;
    if (scope_ == nullptr) return;  // begin() will see it
    kept_ = shared_from_this();
    if (loop_->on_ring_thread())
        loop_->schedule(*this);  // the caller may be within a walk over the hooks of the scope
    else
        loop_->post(*this);
}

void remote_task_base::stop_arrived(work& item) noexcept {
    auto& self = static_cast<remote_task_base&>(item);
    std::shared_ptr<remote_task_base> kept;
    cancel_scope* scope = nullptr;
    stop_cause cause = stop_cause::none;
    {
        const thread_lock lock(self.mutex_);
        kept = std::move(self.kept_);
        scope = self.scope_;
        cause = self.cause_;
    }
    if (scope != nullptr) scope->request_stop(cause);  // it changes on this thread only
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
