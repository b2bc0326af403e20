// cancel_scope.hpp: a set of awaits that are stopped together, by request or by deadline.
#pragma once

#include <kevring/runtime/clock.hpp>
#include <kevring/runtime/detail/intrusive_list.hpp>
#include <kevring/runtime/timer_queue.hpp>

#include <cstdint>

namespace kevring {

class ring;

/// Why something was stopped; an await that ends by it reports the condition named here.
enum class stop_cause : std::uint8_t {
    none,
    stopped,   // std::errc::operation_canceled
    deadline,  // std::errc::timed_out
};

/// The link of a scope to one object that can be stopped: an await in flight, or an inner scope.
///
/// `cancel` only asks: it neither resumes a coroutine nor unlinks a hook, so that a scope can walk
/// its hooks while it calls them.
struct cancel_hook : detail::list_link {
    using cancel_function = void (*)(cancel_hook&, stop_cause) noexcept;
    explicit cancel_hook(cancel_function function) noexcept : cancel(function) {}
    cancel_function cancel;
};

/// A node in the tree of things that are stopped together. Every coroutine runs in one and hands it
/// to what it awaits; a stop or a deadline of a scope reaches all awaits below it.
///
/// Operations link themselves into the scope of the coroutine that awaits them: four stores, no
/// atomic, no allocation. That is what makes a deadline on everything affordable.
///
/// Lifetime   Outlives every await that runs in it, and lies within its parent's life.
/// Thread     The ring's own. A std::stop_token reaches a scope through with_stop().
class cancel_scope {
public:
    /// A scope inside `parent`, or inside the ring's root scope; it is stopped with that.
    explicit cancel_scope(ring& loop, cancel_scope* parent = nullptr) noexcept;
    cancel_scope(const cancel_scope&) = delete;
    cancel_scope& operator=(const cancel_scope&) = delete;
    ~cancel_scope();

    /// Asks everything in the scope to end. The first cause stays; a second call changes nothing.
    void request_stop(stop_cause cause = stop_cause::stopped) noexcept;
    /// Stops the scope at `deadline_ns` of the steady clock; `never_ns` takes a deadline back.
    void set_deadline(std::int64_t deadline_ns) noexcept;

    stop_cause cause() const noexcept { return cause_; }
    bool stop_requested() const noexcept { return cause_ != stop_cause::none; }
    ring& loop() const noexcept { return loop_; }

    /// Links what an await waits for; it is unlinked by its owner when the await ends.
    void add(cancel_hook& hook) noexcept { hook.insert_before(hooks_); }

private:
    friend class ring;
    // Moves all hooks to `kept`; the scope forgets them.
    void abandon(detail::list_link& kept) noexcept;

    static void parent_stopped(cancel_hook& hook, stop_cause cause) noexcept;
    static void deadline_passed(timer_node& node) noexcept;

    struct own_hook : cancel_hook {
        explicit own_hook(cancel_scope& self) noexcept : cancel_hook(parent_stopped), scope(self) {}
        cancel_scope& scope;
    };
    struct own_timer : timer_node {
        explicit own_timer(cancel_scope& self) noexcept
            : timer_node(deadline_passed), scope(self) {}
        cancel_scope& scope;
    };

    ring& loop_;
    detail::list_link hooks_;
    own_hook in_parent_{*this};
    own_timer deadline_{*this};
    cancel_scope* next_stopped_ = nullptr;  // in the list of request_stop()
    stop_cause cause_ = stop_cause::none;
};

}  // namespace kevring
