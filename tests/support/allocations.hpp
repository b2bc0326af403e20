// allocations.hpp: the number of calls of operator new, and calls that fail.
#pragma once

#include <cstdint>

/// False under sanitizers, which have their own operator new.
bool allocations_are_counted() noexcept;
std::uint64_t allocation_count() noexcept;

/// During its lifetime one allocation of this thread fails: the first one after `count` others.
class failing_allocation {
public:
    explicit failing_allocation(std::uint64_t count) noexcept;
    failing_allocation(const failing_allocation&) = delete;
    failing_allocation& operator=(const failing_allocation&) = delete;
    ~failing_allocation();
    /// Whether the allocation has failed.
    bool has_failed() const noexcept;
};

/// While it lives, every allocation of all other threads fails.
class failing_threads {
public:
    failing_threads() noexcept;
    failing_threads(const failing_threads&) = delete;
    failing_threads& operator=(const failing_threads&) = delete;
    ~failing_threads();
};
