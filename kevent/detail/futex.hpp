// futex.hpp: sleep and wake-up of threads of this process, for the lock-free parts of kevent/.
//
// The ring and its gates are templates over such a type, so that a test can run the same code over
// atomics of its own and try every interleaving. No member is called on a path without a sleeper.
#pragma once

#include <kevring/runtime/detail/language.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>

namespace kevring::detail {

using steady_deadline = std::chrono::steady_clock::time_point;

/// A deadline that never comes.
inline constexpr steady_deadline no_deadline = steady_deadline::max();

enum class wait_status : std::uint8_t {
    woken,        ///< woken, or the word had changed, or for no reason at all: look again
    timed_out,    ///< the deadline has passed
    interrupted,  ///< a signal handler ran on this thread
};

/// The threads of this process, on std::atomic and futex(2).
struct native_threads {
    template <class T>
    using atomic = std::atomic<T>;

    /// Sleeps while `word` is `expected`, which the kernel compares as one step with going to
    /// sleep.
    static wait_status sleep(std::atomic<std::uint32_t>& word, std::uint32_t expected,
                             steady_deadline deadline) noexcept;

    /// Wakes up to `count` threads that sleep on `word`.
    static void wake(std::atomic<std::uint32_t>& word, std::uint32_t count) noexcept;
};

}  // namespace kevring::detail
