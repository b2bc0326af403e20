#include "background_threads.hpp"

#include "completion_event.hpp"

#include <exception>
#include <memory>
#include <utility>

#include <pthread.h>

namespace httpd {

background_threads::~background_threads() {
    stopping_.store(true, std::memory_order_relaxed);
    {
        const kevring::thread_lock lock(mutex_);
        jobs_.clear();
    }
    queued_.notify_all();
    for (std::thread& each : threads_) each.join();
}

bool background_threads::run(std::function<void()> job) noexcept try {
    const kevring::thread_lock lock(mutex_);
    if (stopping() || jobs_.size() >= queued_max) return false;
    if (idle_count_ <= jobs_.size() && threads_.size() < thread_count_max_) {
        try {
            threads_.emplace_back([this] { work(); });
        } catch (const std::exception&) {
            if (threads_.empty()) return false;  // otherwise the running ones do it later
        }
    }
    jobs_.push_back(std::move(job));
    queued_.notify_one();
    return true;
} catch (const std::exception&) {
    return false;
}

void background_threads::work() {
    ::pthread_setname_np(::pthread_self(), "httpd-work");
    kevring::thread_lock lock(mutex_);
    while (true) {
        ++idle_count_;
        while (!stopping() && jobs_.empty()) queued_.wait(lock);
        --idle_count_;
        if (stopping()) return;
        std::function<void()> job = std::move(jobs_.front());
        jobs_.pop_front();
        lock.unlock();
        job();
        job = nullptr;  // its data is released here, not under the lock
        lock.lock();
    }
}

kevring::task<bool> run_in_background(kevring::ring& loop, background_threads& threads,
                                      std::function<void()> job) {
    const auto done = std::make_shared<completion_event>();
    if (!done->valid()) co_return false;
    const std::function<void()> all = [done, work = std::move(job)] {
        work();
        done->signal();
    };
    if (!threads.run(all)) co_return false;
    const bool ended = co_await done->wait(loop);
    co_return ended;
}

}  // namespace httpd
