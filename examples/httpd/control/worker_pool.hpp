// worker_pool.hpp: the server's loops, as the control loop sees them.
#pragma once

#include "examples/httpd/observe/metrics_server.hpp"
#include "examples/httpd/observe/worker_report.hpp"
#include "examples/httpd/serving/worker.hpp"

#include <kevring/kevent/event_queue.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/task.hpp>
#include <kevring/runtime/thread_mutex.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

namespace httpd {

/// The loops and the requests that are posted to them.
///
/// Lifetime   Outlives the loops.
class worker_pool final : public report_source {
public:
    // The last loop has begun to serve; the last loop has stopped.
    static constexpr kevring::user_event all_serving{1};
    static constexpr kevring::user_event all_stopped{2};

    /// `events` is the control loop's queue; the loops notify it.
    ///
    /// Lifetime   `events` outlives this.
    worker_pool(unsigned loop_count, kevring::event_queue& events);

    // Called on the control loop, or before the loops run.

    /// Gives each loop the configuration; a loop that has not begun begins with it. `opened` has a
    /// list for each loop.
    void change(const std::shared_ptr<const configuration>& next,
                std::vector<std::vector<opened_listener>> opened,
                const std::vector<unsigned>& closed);
    void retire() noexcept { post_to_all(&worker_slot::retire); }
    void drain() noexcept { post_to_all(&worker_slot::drain); }
    /// Waits for a report of each loop, for a second at most. It follows what was posted to the loop
    /// before, unless another call has asked for a report just then.
    kevring::task<void> refresh() override;
    const report_slot& slot(std::size_t index) const noexcept override {
        return slots_[index].last;
    }
    std::size_t slot_count() const noexcept override { return slots_.size(); }

    // Called on the loop with that index.

    worker_change initial_change(unsigned index);
    report_slot& slot(unsigned index) noexcept { return slots_[index].last; }
    void join(unsigned index, worker& serving_worker);
    void leave(unsigned index) noexcept;

private:
    struct worker_slot;

    /// A call that other threads post to a loop. Posted again before it has run, it runs once.
    class request : private kevring::work {
    public:
        using function = void (*)(worker_slot&);
        request(worker_slot& to, function what) noexcept : work(run_posted), to_(to), what_(what) {}

        void send(kevring::ring& loop) noexcept {
            // acq_rel: pairs with the same in arrived(); the item is in one mailbox at most.
            if (!pending_.exchange(true, std::memory_order_acq_rel)) loop.post(*this);
        }

    private:
        static void run_posted(work& item) noexcept;

        worker_slot& to_;
        const function what_;
        std::atomic<bool> pending_{false};
    };

    struct worker_slot {
        explicit worker_slot(worker_pool& pool) noexcept : pool(pool) {}
        // Constant after construction.
        worker_pool& pool;
        // Written on its loop.
        worker* serving_worker = nullptr;  // null before join() and after leave()
        // Posted by the control loop.
        request drain{*this, [](worker_slot& to) { to.serving_worker->drain(); }};
        request retire{*this, [](worker_slot& to) { to.serving_worker->retire(); }};
        request report{*this, [](worker_slot& to) { to.serving_worker->report(); }};
        request change{*this, [](worker_slot& to) { to.pool.apply_changes(to); }};
        // Read and written on any thread.
        report_slot last;
        // Guarded by mutex_ of the pool, which clang cannot tell from that of another pool.
        kevring::ring* loop = nullptr;       // of `serving_worker`
        std::vector<worker_change> changes;  // that it has not taken yet
    };

    void post_to_all(request worker_slot::* what) noexcept;
    void apply_changes(worker_slot& to);
    bool all_have_reported(const std::vector<std::uint64_t>& after) noexcept;

    kevring::event_queue& events_;
    kevring::event_queue reports_;
    std::deque<worker_slot> slots_;
    kevring::thread_mutex mutex_;
    std::size_t joined_count_ KEVRING_GUARDED_BY(mutex_) = 0;
    std::size_t left_count_ KEVRING_GUARDED_BY(mutex_);
    bool draining_ KEVRING_GUARDED_BY(mutex_) = false;
};

}  // namespace httpd
