// queue_wait.cpp: see queue_wait.hpp.
#include <kevring/kevent/detail/queue_wait.hpp>

#include <kevring/kevent/detail/queue_core.hpp>
#include <kevring/kevent/event_queue.hpp>
#include <kevring/kevent/ports/loop_port.hpp>
#include <kevring/runtime/assert.hpp>
#include <kevring/runtime/cancel_scope.hpp>
#include <kevring/runtime/ring.hpp>

#include <algorithm>
#include <exception>

namespace kevring::detail {

// Hot path: no allocation and no system call.

bool queue_wait::start(std::coroutine_handle<> waiter, cancel_scope* scope) {
    const bool is_plain = deadline_ == steady_time::max() && min_count_ != 0 && max_count_ != 0;
    if (is_plain && scope != nullptr && !scope->stop_requested() && queue_.unusable() == 0 &&
        !queue_.fetched_ && scope->loop().spend_inline_budget() &&
        queue_.attach(scope->loop()) == 0) {
        if (readiness_watch* const watch = queue_.port_->waits(scope->loop())) {
            // Here, where it may throw; they never shrink.
            if (queue_.collected_.size() < max_count_) queue_.collected_.resize(max_count_);
            queue_.batch_.reserve(max_count_);
            collecting_.emplace(*this, *watch, scope->loop());
            return !collecting_->collect() && collecting_->start(waiter, scope);
        }
    }
    return await_as_task_(*this, waiter.address());
}

bool queue_wait::collecting::collect() noexcept {
    queue_wait& wait = owner_;
    event_queue& queue = wait.queue_;
    // Written once: other threads read a hook that is listed.
    const unsigned wanted = std::min(wait.min_count_, wait.max_count_);
    if (hook_.min_count != wanted) hook_.min_count = wanted;
    const int count = queue.core_->collect_or_wait(hook_, wait.max_count_, queue.collected_.data());
    wait.count_ = static_cast<unsigned>(std::max(count, 0));
    return wait.count_ != 0;
}

// True: the wait continues.
bool queue_wait::collecting::woken(wait_operation& self, std::coroutine_handle<> waiter) noexcept {
    auto& wait = static_cast<collecting&>(self);
    queue_wait& owner = wait.owner_;
    event_queue& queue = owner.queue_;
    if (queue.port_->waits(wait.loop_) != &wait.watch_ || queue.fetched_) {
        // The queue has another carrier by now, or another await has left an event.
        queue.core_->cancel_wait(wait.hook_);
        return owner.await_as_task_(owner, waiter.address());
    }
    if (wait.collect()) return false;
    wait.wait_again();
    return true;
}

queue_wait::collecting::~collecting() {
    if (hook_.is_listed) owner_.queue_.core_->cancel_wait(hook_);
}

queue_wait::~queue_wait() = default;

queue_wait::value_type queue_wait::await_resume() {
    if (awaiter_) return awaiter_->await_resume();
    if (count_ == 0) {
        const result<void> ended = collecting_->await_resume();
        return tl::unexpected<std::error_code>(ended.error());
    }
    return queue_.batch(std::span(queue_.collected_).first(count_));
}

task<queue_wait::value_type> queue_wait::make_task() const {
    return queue_.wait_as_task(min_count_, max_count_, deadline_);
}

}  // namespace kevring::detail
