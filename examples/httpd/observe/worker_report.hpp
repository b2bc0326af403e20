// worker_report.hpp: the counters of a loop, and a slot where another thread can read them.
#pragma once

#include "metrics_text.hpp"

#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/thread_mutex.hpp>
#include <kevring/sendfile/send_report.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <utility>

namespace httpd {

/// Plain numbers, counted on one loop.
struct worker_counters {
    std::array<std::uint64_t, 600> requests{};  // by status
    std::uint64_t connections = 0;
    std::uint64_t rejected = 0;
    std::uint64_t handshakes = 0;          // of TLS, complete
    std::uint64_t handshake_failures = 0;  // those that the loop ended while it drains are none
    std::uint64_t body_bytes = 0;
    std::uint64_t shared_responses = 0;  // responses that another request had been given
    std::uint64_t content_hits = 0;      // responses from content that the cache had kept
    std::array<std::uint64_t, kevring::send_path_count> path_bytes{};  // of files
    latency_histogram durations;  // of the whole answer, from the end of its request's head
};

struct worker_report {
    worker_counters counted;
    kevring::ring_counters loop;
    std::uint64_t starved = 0;  // receives that found no buffer
    std::uint64_t log_lines_dropped = 0;
    std::uint64_t open_connections = 0;
    std::uint64_t cached_files = 0;
    std::uint64_t content_bytes = 0;  // of files, kept in memory
    std::uint64_t number = 0;         // of this report; 0 before the first
};

/// Thread     Any.
class report_slot {
public:
    /// `callback` is called after each report, on the thread that made it.
    void set_callback(std::function<void()> callback) { callback_ = std::move(callback); }

    void publish(const worker_report& report) noexcept {
        {
            const kevring::thread_lock lock(mutex_);
            const std::uint64_t number = last_.number + 1;
            last_ = report;
            last_.number = number;
        }
        if (callback_) callback_();
    }
    worker_report last() const noexcept {
        const kevring::thread_lock lock(mutex_);
        return last_;
    }
    std::uint64_t number() const noexcept {
        const kevring::thread_lock lock(mutex_);
        return last_.number;
    }

private:
    std::function<void()> callback_;  // constant once the loops run
    mutable kevring::thread_mutex mutex_;
    worker_report last_ KEVRING_GUARDED_BY(mutex_);
};

}  // namespace httpd
