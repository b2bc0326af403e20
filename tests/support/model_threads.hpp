// model_threads.hpp: the atomics and the sleeping of code that the explorer runs.
//
// They take the place of kevring::detail::native_threads. interleavings.hpp is the explorer.
#pragma once

#include "tests/support/interleavings.hpp"

#include <kevring/kevent/detail/futex.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace model {

/// An atomic of the explorer's. Outside a run it is a plain variable.
template <class T>
class atomic {
public:
    atomic() : atomic(T{}) {}
    explicit(false) atomic(T value)
        : location_(explorer::current().add_location(static_cast<std::uint64_t>(value))) {}
    atomic(const atomic&) = delete;

    T load(std::memory_order order) const {
        return static_cast<T>(explorer::current().load(location_, order));
    }
    void store(T value, std::memory_order order) {
        explorer::current().store(location_, static_cast<std::uint64_t>(value), order);
    }
    T fetch_add(T value, std::memory_order order) {
        return static_cast<T>(
            explorer::current().add(location_, static_cast<std::uint64_t>(value), order));
    }
    bool compare_exchange_strong(T& expected, T desired, std::memory_order success,
                                 std::memory_order failure) {
        std::uint64_t value = static_cast<std::uint64_t>(expected);
        const bool done = explorer::current().exchange(
            location_, value, static_cast<std::uint64_t>(desired), success, failure);
        expected = static_cast<T>(value);
        return done;
    }
    bool compare_exchange_weak(T& expected, T desired, std::memory_order success,
                               std::memory_order failure) {
        return compare_exchange_strong(expected, desired, success, failure);
    }

    std::size_t location() const { return location_; }

private:
    std::size_t location_;
};

/// The explorer's threads, in place of kevring::detail::native_threads.
struct model_threads {
    template <class T>
    using atomic = model::atomic<T>;

    static kevring::detail::wait_status sleep(atomic<std::uint32_t>& word, std::uint32_t expected,
                                              kevring::detail::steady_deadline deadline) {
        return explorer::current().sleep(word.location(), expected,
                                         deadline != kevring::detail::no_deadline);
    }
    static void wake(atomic<std::uint32_t>& word, std::uint32_t count) {
        explorer::current().wake(word.location(), count);
    }
};

}  // namespace model
