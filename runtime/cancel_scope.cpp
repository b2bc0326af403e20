#include <kevring/runtime/cancel_scope.hpp>

#include <kevring/runtime/assert.hpp>
#include <kevring/runtime/ring.hpp>

namespace kevring {

cancel_scope::cancel_scope(ring& loop, cancel_scope* parent) noexcept : loop_(loop) {
    if (parent == nullptr) {
        parent = &loop.root_scope();
        if (parent == this) return;
    }
    parent->add(in_parent_);
    cause_ = parent->cause_;
}

cancel_scope::~cancel_scope() {
    KEVRING_ASSERT(!hooks_.linked() || loop_.created_by_parent_process(),
                   "cancel_scope destroyed while an await or a scope inside it is pending; join "
                   "what runs in it first");
    loop_.timers().disarm(deadline_);
    in_parent_.unlink();
}

void cancel_scope::abandon(detail::list_link& kept) noexcept {
    while (hooks_.linked()) {
        detail::list_link& first = *hooks_.next;
        first.unlink();
        first.insert_before(kept);
    }
}

void cancel_scope::request_stop(stop_cause cause) noexcept {
    KEVRING_ASSERT(!loop_.driven_by_another_thread(),
                   "stop requested on a thread that does not drive the ring; use a std::stop_token "
                   "with with_stop(), or post() the stop");
    if (cause_ != stop_cause::none) return;
    cause_ = cause;
    // The scopes inside are added to a list as their hooks are called, so that scopes can be nested
    // to any depth. No hook resumes a coroutine, so none of them is destroyed in this loop.
    cancel_scope* last = this;
    next_stopped_ = nullptr;
    for (cancel_scope* scope = this; scope != nullptr; scope = scope->next_stopped_) {
        for (detail::list_link* link = scope->hooks_.next; link != &scope->hooks_;
             link = link->next) {
            auto& hook = static_cast<cancel_hook&>(*link);
            if (hook.cancel != parent_stopped) {
                hook.cancel(hook, cause);
                continue;
            }
            cancel_scope& inner = static_cast<own_hook&>(hook).scope;
            if (inner.cause_ != stop_cause::none) continue;
            inner.cause_ = cause;
            inner.next_stopped_ = nullptr;
            last = last->next_stopped_ = &inner;
        }
    }
}

void cancel_scope::set_deadline(std::int64_t deadline_ns) noexcept {
    loop_.timers().disarm(deadline_);
    if (deadline_ns != never_ns) loop_.timers().arm(deadline_, deadline_ns);
}

void cancel_scope::parent_stopped(cancel_hook& hook, stop_cause cause) noexcept {
    static_cast<own_hook&>(hook).scope.request_stop(cause);
}

void cancel_scope::deadline_passed(timer_node& node) noexcept {
    static_cast<own_timer&>(node).scope.request_stop(stop_cause::deadline);
}

}  // namespace kevring
