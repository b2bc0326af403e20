// ring_consumers.hpp: several threads that take records from the ring of a queue with
// KEVENT_INIT_ASYNC, as kevent_init(3) describes it.
#pragma once

#include "tests/kevent/kevent_fixture.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <span>

namespace kevent_test {

/// Records that were taken together: `count` of them from position `first` on.
struct taken_records {
    std::uint64_t first = 0;
    unsigned count = 0;
};

/// The position that the consumers of one ring share.
///
/// Thread     Any.
class ring_consumers {
public:
    ring_consumers(queue& source, unsigned slot_count) : queue_(source), slots_(slot_count) {}

    /// Copies the oldest records that no thread has taken, and commits them. Makes no call if
    /// there are none.
    taken_records take(std::span<ukevent> target) {
        std::uint64_t first = claimed_.load();
        while (true) {
            const unsigned end = queue_.ring_kidx();
            const auto begin = static_cast<unsigned>(first % slots_);
            const unsigned filled = (end + slots_ - begin) % slots_;
            const auto count = std::min(filled, static_cast<unsigned>(target.size()));
            if (count == 0) return {first, 0};
            for (unsigned i = 0; i < count; ++i) copy((begin + i) % slots_, target[i]);
            if (!claimed_.compare_exchange_weak(first, first + count)) continue;
            const std::uint64_t next = first + count;
            const int freed = queue_.commit(static_cast<unsigned>(next % slots_),
                                            static_cast<unsigned>(next / slots_));
            // -EOVERFLOW: other threads have committed past it by laps.
            KEVRING_ASSERT(freed >= 0 || freed == -EOVERFLOW,
                           "a commit of taken records failed; see kevent_commit(3)");
            if (freed > 0) freed_ += static_cast<std::uint64_t>(freed);
            return {first, count};
        }
    }
    std::uint64_t taken_count() const { return claimed_.load(); }
    std::uint64_t freed_count() const { return freed_.load(); }
    unsigned slot() const { return static_cast<unsigned>(claimed_.load() % slots_); }

private:
    // Another thread may commit the slot, and the driver overwrite it, during the copy.
    void copy(unsigned slot, ukevent& target) {
        std::array<std::uint64_t, sizeof(ukevent) / 8> words;
        const auto* const source =
            reinterpret_cast<const std::uint64_t*>(&queue_.ring().event[slot]);
        for (std::size_t i = 0; i < words.size(); ++i)
            words[i] = __atomic_load_n(source + i, __ATOMIC_RELAXED);
        std::memcpy(&target, words.data(), sizeof target);
    }

    queue& queue_;
    const unsigned slots_;
    std::atomic<std::uint64_t> claimed_{0};
    std::atomic<std::uint64_t> freed_{0};
};

}  // namespace kevent_test
