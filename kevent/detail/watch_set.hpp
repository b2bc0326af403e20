// watch_set.hpp: the descriptors that a queue watches through its port, each with its handler.
#pragma once

#include <kevring/kevent/detail/source.hpp>
#include <kevring/kevent/ports/port.hpp>

#include <cstdint>
#include <span>
#include <vector>

#include <poll.h>

namespace kevring::detail {

/// Each watched descriptor has a slot. The tag of an edge holds the slot's number and generation,
/// so that a late edge of a removed descriptor does not reach the slot's next owner.
///
/// Thread     The thread that holds the queue's lock.
class watch_set {
public:
    /// Batches of at least this many changes query readiness with one poll(2).
    static constexpr unsigned batch_min = 4;

    explicit watch_set(port& carrier) : port_(carrier), slots_(1) {}
    watch_set(const watch_set&) = delete;
    watch_set& operator=(const watch_set&) = delete;

    /// See source_host.
    int watch(fd_watch& target, fd_handler& handler, std::uint32_t poll_bits);
    void unwatch(fd_watch& target) noexcept;

    /// Announces up to `count` calls of watch() before end_batch(), most of them for bits that are
    /// watched already.
    void begin_batch(unsigned count) noexcept;
    void end_batch() noexcept {
        batching_ = false;
        flush_batch();
    }
    /// Makes the port report what the calls of the batch, so far, have to report.
    void flush_batch() noexcept;

    /// Begins to load the memory that dispatch() will access.
    void prefetch(std::span<const edge> edges) const noexcept;
    /// Calls the handler of an edge, whose tag is at least port::first_free.
    void dispatch(const edge& report) const noexcept {
        const std::uint32_t slot = slot_of(report.tag);
        // An edge of a descriptor that was removed in the meantime has an old generation.
        if (slot >= slots_.size() || slots_[slot].generation != report.tag >> 32) return;
        slots_[slot].handler->on_ready(report.bits);
    }

private:
    struct slot {
        fd_handler* handler = nullptr;
        const void* prefetch_hint = nullptr;
        std::uint32_t generation = 0;
        std::uint32_t next_free = 0;
        std::uint32_t poll_bits = 0;
    };

    static std::uint32_t slot_of(std::uint64_t tag) noexcept {
        return static_cast<std::uint32_t>(tag) - port::first_free;
    }
    std::uint64_t tag_of(std::uint32_t number) const noexcept {
        return (std::uint64_t{slots_[number].generation} << 32) | (number + port::first_free);
    }

    port& port_;
    std::vector<slot> slots_;  // slot 0 is never assigned
    std::uint32_t free_slot_ = 0;
    bool batching_ = false;
    std::vector<pollfd> unchanged_;  // watched again for the same bits
    std::vector<std::uint64_t> unchanged_tags_;
};

}  // namespace kevring::detail
