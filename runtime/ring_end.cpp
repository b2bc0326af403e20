// ring_end.cpp: the end of a ring: what is in flight is stopped and awaited, or abandoned.
#include <kevring/runtime/ring.hpp>

#include <kevring/runtime/assert.hpp>
#include <kevring/runtime/detail/ring_state.hpp>
#include <kevring/runtime/detail/uring.hpp>
#include <kevring/runtime/thread_mutex.hpp>

#include <cstdio>
#include <memory>
#include <system_error>
#include <utility>
#include <vector>

#include <unistd.h>

namespace kevring {

using detail::current_ring;
using detail::queuing_ring;

void ring::detach(detail::list_link& request) noexcept {
    KEVRING_ASSERT(on_ring_thread(),
                   "internal error: a request was detached on another thread than its ring's; "
                   "report it with the call that led to it");
    request.insert_before(detached_);
    ++detached_count_;
}

void ring::detached_completed(detail::list_link& request) noexcept {
    request.unlink();
    --detached_count_;
}

// A closing ring takes no request: in its place goes one that does nothing, and is answered as if
// it had been stopped at once.
[[gnu::cold]] void ring::refuse(completion& request) noexcept {
    static_assert(alignof(completion) > detail::user_data_refused);
    if (created_by_parent_process()) return;
    io_uring_sqe& entry = next_entry();
    entry.opcode = IORING_OP_NOP;
    entry.user_data = reinterpret_cast<std::uintptr_t>(&request) | detail::user_data_refused;
    ++in_flight_;
    ++counters_.requests;
}

[[gnu::cold]] void ring::cancel_everything() noexcept {
    io_uring_sqe& entry = next_entry();
    entry.opcode = IORING_OP_ASYNC_CANCEL;
    entry.fd = -1;
    entry.cancel_flags = IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL;
    entry.user_data = detail::user_data_ignored;
}

// Stops all requests in flight and awaits their final completions. False: a coroutine has not ended
// within the bound.
[[gnu::cold]] bool ring::drain() noexcept {
    struct reminder : timer_node {
        explicit reminder(ring& loop) noexcept
            : timer_node([](timer_node& self) noexcept {
                  static_cast<reminder&>(self).loop.cancel_everything();
              }),
              loop(loop) {}
        ring& loop;
    };
    constexpr std::int64_t reminder_ns = 100'000'000;
    // The thread of an expected post is between the post and its last access of the ring.
    constexpr std::int64_t post_reminder_ns = 1'000'000;
    // A reachable peer acknowledges within this; an unreachable one may never do so.
    constexpr std::int64_t linger_ns = 250'000'000;
    // A stopped coroutine may still await something else: it is refused, and ends. The bound is
    // for one that never does; what it holds then leaks rather than hangs the program. Only
    // iterations count since fewer requests were in flight than ever before: requests that end one
    // after the other are awaited, however many they are.
    constexpr int iteration_count_max = 10'000;

    ring* const outer = std::exchange(current_ring, this);
    closing_ = true;
    root_scope_.request_stop();
    cancel_everything();
    reminder again(*this);  // for requests that were between two states at the first cancel
    const std::int64_t linger_end_ns = add_ns(now_ns(), nanoseconds(linger_ns));
    bool ended = false;
    std::size_t fewest_in_flight = in_flight_;
    for (int iterations_without_progress = 0; iterations_without_progress < iteration_count_max;
         ++iterations_without_progress) {
        // acquire: pairs with the release in expected_post_ended(). first: an item that was posted
        // before it is seen below.
        const bool expects_post = expected_posts_.load(std::memory_order_acquire) != 0;
        const bool idle = ready_first_ == nullptr && saved_.empty() && !has_posted();
        if (idle && !expects_post && in_flight_ == detached_count_ &&
            (detached_count_ == 0 || now_ns() >= linger_end_ns)) {
            ended = true;
            break;
        }
        if (!again.armed()) {
            const bool only_post = expects_post && in_flight_ == 0;
            timers_.arm(again,
                        add_ns(now_ns(), nanoseconds(only_post ? post_reminder_ns : reminder_ns)));
        }
        run_once(in_flight_ > 0 || expects_post);
        // The other thread uses the ring until it has posted, however long that takes.
        if (in_flight_ < fewest_in_flight || expects_post) {
            fewest_in_flight = in_flight_;
            iterations_without_progress = 0;
        }
    }
    timers_.disarm(again);
    current_ring = outer == this ? nullptr : outer;
    return ended;
}

// Leaves everything that waits on the ring as it is, for good: nothing of it runs again. The lists
// go into ones that are never destroyed, so that leak checkers see that the frames are kept.
[[gnu::cold]] void ring::abandon() noexcept {
    struct kept_lists {
        thread_mutex guard;
        detail::list_link hooks KEVRING_GUARDED_BY(guard);
        detail::timer_links timers KEVRING_GUARDED_BY(guard);
        work* ready KEVRING_GUARDED_BY(guard) = nullptr;
        std::vector<std::unique_ptr<ring_service>> services KEVRING_GUARDED_BY(guard);
    };
    static kept_lists& kept = *new kept_lists;
    const thread_lock lock(kept.guard);
    root_scope_.set_deadline(never_ns);
    root_scope_.abandon(kept.hooks);
    timers_.abandon(kept.timers);
    take_posted();
    if (ready_first_ != nullptr) {
        work* last = ready_first_;
        while (last->next != nullptr) last = last->next;
        last->next = std::exchange(kept.ready, std::exchange(ready_first_, nullptr));
        ready_last_ = &ready_first_;
    }
    if (in_flight_ > detached_count_ && !created_by_parent_process()) {
        // The kernel may still write to the buffers of pools.
        kept.services.push_back(std::move(services_));
    }
}

// Memory that the kernel may still read goes from the ring's list into one that is never destroyed,
// so that leak checkers see that it is kept and not lost.
[[gnu::cold]] void ring::abandon_detached() noexcept {
    struct kept_list {
        thread_mutex guard;
        detail::list_link head KEVRING_GUARDED_BY(guard);
    };
    static kept_list& kept = *new kept_list;
    const thread_lock lock(kept.guard);
    while (detached_.linked()) {
        detail::list_link& first = *detached_.next;
        first.unlink();
        first.insert_before(kept.head);
    }
}

// Work that was posted or scheduled to a ring that no thread has driven is run by its destructor.
[[gnu::cold]] void ring::adopt() noexcept {
    try {
        claim();
    } catch (const std::system_error&) {
        abandon();
    }
}

ring::~ring() {
    if (created_by_parent_process()) {
        abandon();
    } else {
        KEVRING_ASSERT(
            !in_iteration_,
            "ring destroyed from within its own loop; destroy it after run() or run_once() "
            "has returned");
        if (owner_.load(std::memory_order_relaxed) == 0 && has_work()) adopt();
        if (on_ring_thread() && !drain()) {
            std::fputs(
                "kevring: ring destroyed while a coroutine runs that ignores its stop: its "
                "frame leaks; end the coroutine when an await returns operation_canceled\n",
                stderr);
            abandon();
        }
    }
    if (detached_.linked()) abandon_detached();
    if (current_ring == this) current_ring = nullptr;
    if (queuing_ring == this) queuing_ring = nullptr;
    destroy_services();  // first: the pools unregister their buffers from the kernel's ring
    system_.ring_exit(*uring_);
    if (wake_fd_ >= 0) ::close(wake_fd_);
    if (event_fd_ >= 0) ::close(event_fd_);
}

}  // namespace kevring
