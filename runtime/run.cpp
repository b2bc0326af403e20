#include <kevring/runtime/run.hpp>

#include <kevring/runtime/thread_mutex.hpp>

#include <atomic>
#include <deque>
#include <memory>
#include <stdexcept>
#include <thread>
#include <vector>

namespace kevring::detail {
namespace {

// State of the threads of one run_threads(). It outlives them, and so the work that is posted.
class thread_group {
public:
    explicit thread_group(unsigned thread_count) : missing_count_(thread_count) {
        for (unsigned i = 0; i < thread_count; ++i) members_.emplace_back();
    }

    void run_member(unsigned index, const ring_options& options,
                    const std::function<task<void>(unsigned)>& make) noexcept {
        bool has_arrived = false;
        try {
            ring loop(options);
            const membership joined(*this, members_[index], loop);  // ends before the ring does
            arrive(1);
            has_arrived = true;
            if (wait_for_all()) kevring::run(loop, make(index));
        } catch (...) {
            fail(std::current_exception());
            if (!has_arrived) arrive_without_rings(1);
        }
    }

    void arrive_without_rings(unsigned count) noexcept {
        is_incomplete_.store(true, std::memory_order_relaxed);  // published by arrive()
        arrive(count);
    }
    void arrive(unsigned count) noexcept {
        // release: pairs with the acquire in wait_for_all().
        if (missing_count_.fetch_sub(count, std::memory_order_acq_rel) == count)
            missing_count_.notify_all();
    }

    void fail(std::exception_ptr failure) noexcept {
        const thread_lock lock(mutex_);
        if (failure_) return;
        failure_ = std::move(failure);
        for (member& each : members_)
            if (each.reachable) each.own->post(each);
    }

    void rethrow() {
        const thread_lock lock(mutex_);
        if (failure_) std::rethrow_exception(failure_);
    }

private:
    // A task that took the last descriptors would leave a thread without a ring: all rings are made
    // first. False: one could not be made.
    bool wait_for_all() noexcept {
        while (const unsigned missing = missing_count_.load(std::memory_order_acquire))
            missing_count_.wait(missing, std::memory_order_acquire);
        return !is_incomplete_.load(std::memory_order_relaxed);
    }

    struct member : work {
        member() noexcept
            : work([](work& self) noexcept {
                  static_cast<member&>(self).own->root_scope().request_stop();
              }) {}
        ring* own = nullptr;  // written by the member's thread before anything is posted
        bool reachable = false;
    };

    class membership {
    public:
        membership(thread_group& group, member& entry, ring& loop) : group_(group), entry_(entry) {
            const thread_lock lock(group_.mutex_);
            entry_.own = &loop;
            entry_.reachable = true;
            if (group_.failure_) loop.post(entry_);  // another has failed before this one began
        }
        membership(const membership&) = delete;
        membership& operator=(const membership&) = delete;
        ~membership() {
            // Nothing is posted after this; what has been posted already is run by ~ring(), which
            // stops its root scope anyhow.
            const thread_lock lock(group_.mutex_);
            entry_.reachable = false;
        }

    private:
        thread_group& group_;
        member& entry_;
    };

    std::atomic<unsigned> missing_count_;  // threads that do not have their ring yet
    std::atomic<bool> is_incomplete_{false};
    thread_mutex mutex_;
    std::exception_ptr failure_ KEVRING_GUARDED_BY(mutex_);
    std::deque<member> members_;  // each one's `reachable` is guarded by mutex_
};

}  // namespace

namespace {

// Starts a spawned task on the ring's thread.
struct spawned_work : work {
    spawned_work(detached_task task, ring& loop) noexcept : work(begin), task(task), loop(loop) {}
    static void begin(work& self) noexcept {
        const std::unique_ptr<spawned_work> own(&static_cast<spawned_work&>(self));
        own->task.start(own->loop.root_scope());
    }
    const detached_task task;
    ring& loop;
};

detached_task run_spawned(task<void> main) { co_await std::move(main); }

}  // namespace

void run_threads(unsigned thread_count, const ring_options& options,
                 const std::function<task<void>(unsigned)>& make) {
    if (thread_count == 0) throw std::invalid_argument("kevring: run() needs at least one thread");
    thread_group all(thread_count);
    {
        std::vector<std::jthread> threads;
        threads.reserve(thread_count - 1);
        try {
            while (threads.size() < thread_count - 1) {
                const auto index = static_cast<unsigned>(threads.size() + 1);
                threads.emplace_back([&, index] { all.run_member(index, options, make); });
            }
        } catch (...) {
            all.fail(std::current_exception());
            all.arrive_without_rings(thread_count - 1 - static_cast<unsigned>(threads.size()));
        }
        all.run_member(0, options, make);
    }
    all.rethrow();
}

}  // namespace kevring::detail

namespace kevring {

void spawn(ring& loop, task<void> main) {
    if (loop.created_by_parent_process()) return;
    struct unstarted {
        detail::detached_task task;
        ~unstarted() {
            if (task.frame) task.frame.destroy();
        }
    } created{detail::run_spawned(std::move(main))};
    auto& first = *new detail::spawned_work(created.task, loop);
    created.task.frame = {};
    loop.post(first);
}

}  // namespace kevring
