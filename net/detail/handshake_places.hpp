// handshake_places.hpp: the bound of TLS handshakes at a time.
#pragma once

#include <kevring/runtime/result.hpp>
#include <kevring/runtime/semaphore.hpp>
#include <kevring/runtime/task.hpp>
#include <kevring/runtime/thread_mutex.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace kevring::detail {

/// The places for handshakes of a context, and of the contexts that continue it.
///
/// Thread     Any.
class handshake_places {
public:
    /// Waits for a place. The caller releases it.
    ///
    /// Errors     operation_canceled and timed_out by the scope around it; no place is taken then.
    task<result<void>> acquire();
    void release() noexcept;
    /// Whether an acquire() waits.
    bool is_awaited() const noexcept { return waiting_count_.load(std::memory_order_relaxed) > 0; }

    /// Sets the number of places, unless a context of a higher version has set it. With fewer places
    /// than are held, those above the bound are not used again.
    void set_bound(std::size_t count_max, std::uint64_t version) noexcept;
    /// The version of a context that shares the places from now on: higher than all others.
    std::uint64_t next_version() noexcept {
        return last_version_.fetch_add(1, std::memory_order_relaxed) + 1;
    }
    std::size_t held_count() noexcept;

private:
    // Changed by any thread; a stale value only delays the end of a stalled handshake.
    std::atomic<std::size_t> waiting_count_{0};
    std::atomic<std::uint64_t> last_version_{1};

    thread_mutex mutex_;
    std::size_t bound_ KEVRING_GUARDED_BY(mutex_) = 0;
    std::size_t surplus_ KEVRING_GUARDED_BY(mutex_) = 0;  // held places above the bound
    std::uint64_t version_ KEVRING_GUARDED_BY(mutex_) = 0;
    kevring::cross_loop::semaphore free_{0};
};

}  // namespace kevring::detail
