// background_threads.hpp: threads for work that would block a loop, and the await of its end.
#pragma once

#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/task.hpp>
#include <kevring/runtime/thread_mutex.hpp>

#include <atomic>
#include <cstddef>
#include <deque>
#include <functional>
#include <thread>
#include <vector>

namespace httpd {

/// A small number of threads with one bounded queue. A thread is started when work is first queued,
/// by the loop that queues it, so that it has the restrictions of that loop's thread (Landlock).
///
/// Lifetime   Outlives the loops. The destructor waits for running jobs and drops queued ones.
/// Thread     Any.
class background_threads {
public:
    static constexpr std::size_t queued_max = 256;

    explicit background_threads(unsigned thread_count_max) : thread_count_max_(thread_count_max) {}
    background_threads(const background_threads&) = delete;
    background_threads& operator=(const background_threads&) = delete;
    ~background_threads();

    /// Queues a job, which throws nothing. False if the queue is full or no thread can be started.
    bool run(std::function<void()> job) noexcept;

    /// True once the destructor has begun: a long job ends early.
    bool stopping() const noexcept { return stopping_.load(std::memory_order_relaxed); }

private:
    void work();

    const unsigned thread_count_max_;
    std::atomic<bool> stopping_{false};
    kevring::thread_mutex mutex_;
    kevring::thread_condition queued_;
    std::deque<std::function<void()>> jobs_ KEVRING_GUARDED_BY(mutex_);
    std::vector<std::thread> threads_ KEVRING_GUARDED_BY(mutex_);
    unsigned idle_count_ KEVRING_GUARDED_BY(mutex_) = 0;
};

/// Runs `job` on a background thread and waits for its end.
///
/// Result     False if it was not run, or if the scope around the await was stopped first: then the
///            job may still run, so it must own its data.
kevring::task<bool> run_in_background(kevring::ring& loop, background_threads& threads,
                                      std::function<void()> job);

}  // namespace httpd
