// kernel_probe.hpp: a property of the running kernel, found out once.
#pragma once

#include <kevring/runtime/detail/language.hpp>

#include <atomic>
#include <optional>

namespace kevring::detail {

/// A question that a test of the kernel answers. A test that fails, for example without a descriptor, is
/// repeated by the next call.
///
/// Thread     Any. Threads that ask for the first time at once may each run the test.
class kernel_probe {
public:
    using test = std::optional<bool> (*)() noexcept;

    explicit constexpr kernel_probe(test run) noexcept : run_(run) {}

    /// The answer; false while the test fails.
    bool holds() noexcept {
        // relaxed: the answer is the only data, and every test gives the same.
        if (known_.load(std::memory_order_relaxed) == answer::unknown)
            if (const std::optional<bool> found = run_())
                known_.store(*found ? answer::yes : answer::no, std::memory_order_relaxed);
        return known_.load(std::memory_order_relaxed) == answer::yes;
    }

private:
    enum class answer : unsigned char { unknown, no, yes };

    const test run_;
    std::atomic<answer> known_{answer::unknown};
};

}  // namespace kevring::detail
