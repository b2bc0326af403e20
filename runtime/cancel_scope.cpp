#include <kevring/runtime/cancel_scope.hpp>

#include <kevring/runtime/assert.hpp>
#include <kevring/runtime/ring.hpp>

namespace kevring {

cancel_scope::cancel_scope(ring& on, cancel_scope* parent) noexcept : ring_(on) {
    if (parent == nullptr) {
        parent = &on.root_scope();
        if (parent == this) return;
    }
    parent->add(in_parent_);
    cause_ = parent->cause_;
}

cancel_scope::~cancel_scope() {
    KEVRING_ASSERT(!hooks_.linked(),
                   "cancel_scope destroyed while an await or a scope inside it is pending; join "
                   "what runs in it first");
    ring_.timers().disarm(deadline_);
    in_parent_.unlink();
}

void cancel_scope::request_stop(stop_cause cause) noexcept {
    if (cause_ != stop_cause::none) return;
    cause_ = cause;
    for (detail::list_link* at = hooks_.next; at != &hooks_; at = at->next) {
        auto& hook = static_cast<cancel_hook&>(*at);
        hook.cancel(hook, cause);
    }
}

void cancel_scope::set_deadline(std::int64_t deadline_ns) noexcept {
    ring_.timers().disarm(deadline_);
    if (deadline_ns != never_ns) ring_.timers().arm(deadline_, deadline_ns);
}

void cancel_scope::parent_stopped(cancel_hook& hook, stop_cause cause) noexcept {
    static_cast<own_hook&>(hook).scope.request_stop(cause);
}

void cancel_scope::deadline_passed(timer_node& node) noexcept {
    static_cast<own_timer&>(node).scope.request_stop(stop_cause::deadline);
}

}  // namespace kevring
