// wait_list.hpp: the calls and coroutines that wait on one queue.
#pragma once

#include <kevring/runtime/detail/intrusive_list.hpp>

#include <cstddef>

namespace kevring::detail {

/// One thread inside a waiting call, and the condition that ends its wait.
struct waiter : list_link {
    unsigned min_count = 1;
    bool needs_space = false;  // of the ring: kevent_wait()
    unsigned old_uidx = 0;     // with needs_space
};

/// One suspended coroutine. No thread waits for it in the port: its loop polls the control
/// descriptor.
struct async_waiter : list_link {
    unsigned min_count = 1;
};

/// Thread     The thread that holds the queue's lock.
class wait_list {
public:
    bool has_threads() const noexcept { return threads_.linked(); }

    void add(waiter& self) noexcept { self.insert_before(threads_); }
    void add(async_waiter& self) noexcept { self.insert_before(coroutines_); }

    /// The first waiting thread other than `except` for which `is_satisfied` holds, or null.
    template <class Predicate>
    const waiter* find_thread(const waiter* except, Predicate is_satisfied) const noexcept {
        for (const list_link* at = threads_.next; at != &threads_; at = at->next) {
            const auto* const candidate = static_cast<const waiter*>(at);
            if (candidate != except && is_satisfied(*candidate)) return candidate;
        }
        return nullptr;
    }
    /// True if a coroutine waits for no more than `ready_count` records.
    bool has_coroutine_for(std::size_t ready_count) const noexcept {
        for (const list_link* at = coroutines_.next; at != &coroutines_; at = at->next)
            if (static_cast<const async_waiter*>(at)->min_count <= ready_count) return true;
        return false;
    }

private:
    list_link threads_;
    list_link coroutines_;
};

}  // namespace kevring::detail
