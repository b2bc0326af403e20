// slow_clock.hpp: a kernel whose steady clock is slow, and advances on demand.
#pragma once

#include <kevring/runtime/kernel.hpp>

#include <chrono>
#include <cstdint>

/// A limit of some seconds does not pass by itself on a busy machine, and a test need not wait for it.
class slow_clock : public kevring::kernel {
public:
    std::int64_t steady_ns() noexcept override {
        constexpr std::int64_t factor = 10;
        return kernel::steady_ns() / factor + skipped_ns_;
    }
    void advance(std::chrono::nanoseconds time) noexcept { skipped_ns_ += time.count(); }

private:
    std::int64_t skipped_ns_ = 0;
};
