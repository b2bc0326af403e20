// bench/load/latency_histogram.hpp: counts of durations, exact to 1/64 of their value.
//
// Thread      One writer; readers after it has ended. Histograms of several threads are added.
// Memory      Fixed, 20 KiB; recording a value is an addition and never allocates.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>

namespace kevring::bench {

namespace latency_bucket {

// Values below 64 have a bucket each. Above, each power of two is cut into 64.
constexpr unsigned cut_bits = 6;
constexpr std::uint64_t cuts = 1U << cut_bits;

constexpr std::size_t index_of(std::uint64_t ns) noexcept {
    if (ns < cuts) return ns;
    const auto shift = static_cast<unsigned>(std::bit_width(ns)) - 1 - cut_bits;
    return (shift + 1) * cuts + ((ns >> shift) - cuts);
}

// The largest value that falls into bucket `at`.
constexpr std::uint64_t last_of(std::size_t index) noexcept {
    if (index < cuts) return index;
    const auto shift = static_cast<unsigned>(index / cuts) - 1;
    return ((index % cuts + cuts + 1) << shift) - 1;
}

static_assert(last_of(index_of(63)) == 63 && last_of(index_of(64)) == 64);
static_assert(last_of(index_of(1'000'000)) >= 1'000'000);
static_assert(last_of(index_of(1'000'000)) < 1'000'000 + 1'000'000 / cuts + 1);

}  // namespace latency_bucket

class latency_histogram {
public:
    void record(std::chrono::nanoseconds value) noexcept {
        const auto ns = static_cast<std::uint64_t>(std::max<std::int64_t>(value.count(), 0));
        ++counts_[std::min(latency_bucket::index_of(ns), counts_.size() - 1)];
        ++total_;
        sum_ns_ += ns;
        max_ns_ = std::max(max_ns_, ns);
    }

    void add(const latency_histogram& other) noexcept {
        for (std::size_t index = 0; index < counts_.size(); ++index)
            counts_[index] += other.counts_[index];
        total_ += other.total_;
        sum_ns_ += other.sum_ns_;
        max_ns_ = std::max(max_ns_, other.max_ns_);
    }

    // The smallest value that at least `share` (0 to 1) of all are not above; rounded up by at most
    // 1/64 of it. 0 when nothing was recorded.
    std::chrono::nanoseconds at_share(double share) const noexcept {
        const auto wanted = std::max<std::uint64_t>(
            1, static_cast<std::uint64_t>(share * static_cast<double>(total_) + 0.5));
        std::uint64_t seen = 0;
        for (std::size_t index = 0; index < counts_.size(); ++index) {
            seen += counts_[index];
            if (seen >= wanted)
                return std::chrono::nanoseconds(std::min(latency_bucket::last_of(index), max_ns_));
        }
        return std::chrono::nanoseconds(max_ns_);
    }

    std::chrono::nanoseconds mean() const noexcept {
        return std::chrono::nanoseconds(total_ == 0 ? 0 : sum_ns_ / total_);
    }
    std::chrono::nanoseconds max() const noexcept { return std::chrono::nanoseconds(max_ns_); }
    std::uint64_t count() const noexcept { return total_; }

private:
    // 36 powers of two above the first: up to a little over an hour.
    std::array<std::uint64_t, 37 * latency_bucket::cuts> counts_{};
    std::uint64_t total_ = 0;
    std::uint64_t sum_ns_ = 0;
    std::uint64_t max_ns_ = 0;
};

}  // namespace kevring::bench
