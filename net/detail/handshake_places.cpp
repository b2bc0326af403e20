#include <kevring/net/detail/handshake_places.hpp>

namespace kevring::detail {

task<result<void>> handshake_places::acquire() {
    if (free_.try_acquire()) co_return result<void>();
    struct waiting_guard {
        explicit waiting_guard(std::atomic<std::size_t>& waiting) noexcept : count(waiting) {
            count.fetch_add(1, std::memory_order_relaxed);
        }
        waiting_guard(const waiting_guard&) = delete;
        waiting_guard& operator=(const waiting_guard&) = delete;
        ~waiting_guard() { count.fetch_sub(1, std::memory_order_relaxed); }
        std::atomic<std::size_t>& count;
    };
    const waiting_guard waiting(waiting_count_);
    co_return co_await free_.acquire();
}

void handshake_places::release() noexcept {
    const thread_lock alone(mutex_);
    if (surplus_ > 0)
        --surplus_;
    else
        free_.release();
}

void handshake_places::set_bound(std::size_t count_max, std::uint64_t version) noexcept {
    const thread_lock alone(mutex_);
    if (version <= version_) return;
    version_ = version;
    for (; bound_ > count_max; --bound_)
        if (!free_.try_acquire()) ++surplus_;
    for (; bound_ < count_max; ++bound_) {
        if (surplus_ > 0)
            --surplus_;
        else
            free_.release();
    }
}

std::size_t handshake_places::held_count() noexcept {
    const thread_lock alone(mutex_);
    return bound_ + surplus_ - free_.available();
}

}  // namespace kevring::detail
