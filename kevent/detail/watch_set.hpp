// watch_set.hpp: which source hears of which descriptor in the event port.
#pragma once

#include <kevring/kevent/detail/event_port.hpp>
#include <kevring/kevent/detail/source.hpp>

#include <cstdint>
#include <vector>

#include <poll.h>

namespace kevring::detail {

/// Watched descriptors stand in slots. An edge bears the number of its slot and the slot's
/// generation, so that one which comes late is not taken for another's.
///
/// Thread     That of whoever holds the queue's lock.
class watch_set {
public:
    explicit watch_set(event_port& port) noexcept : port_(port), slots_(1) {}
    watch_set(const watch_set&) = delete;
    watch_set& operator=(const watch_set&) = delete;

    /// See source_host.
    int watch(fd_watch& what, fd_listener& listener, std::uint32_t poll_bits);
    void unwatch(fd_watch& what) noexcept;

    /// From here to end_of_many(), `count` calls of watch() may come in a row, and most for the
    /// bits that are watched for already.
    void begin_many(unsigned count) noexcept;
    void end_of_many() noexcept {
        many_ = false;
        catch_up();
    }
    /// Makes the port report now what those calls, so far, have to report.
    void catch_up() noexcept;

    /// Begins to load what tell() will touch.
    void prefetch(const epoll_event* events, int count) const noexcept;
    /// Tells the listener of an edge, whose tag is none of the port's own.
    void tell(const epoll_event& event) const noexcept {
        const std::uint32_t slot = slot_of(event);
        // A report of what has been removed meanwhile bears an old generation.
        if (slot >= slots_.size() || slots_[slot].generation != event.data.u64 >> 32) return;
        slots_[slot].listener->active(event.events);
    }

private:
    struct slot {
        fd_listener* listener = nullptr;
        const void* near = nullptr;
        std::uint32_t generation = 0;
        std::uint32_t next_free = 0;
        std::uint32_t poll_bits = 0;
    };

    static std::uint32_t slot_of(const epoll_event& event) noexcept {
        return static_cast<std::uint32_t>(event.data.u64) - event_port::first_free;
    }
    std::uint64_t tag_of(std::uint32_t number) const noexcept {
        return (std::uint64_t{slots_[number].generation} << 32) | (number + event_port::first_free);
    }

    event_port& port_;
    std::vector<slot> slots_;  // slot 0 is never given away
    std::uint32_t free_slot_ = 0;
    bool many_ = false;
    std::vector<pollfd> unchanged_;  // watched for the same bits again
    std::vector<std::uint64_t> unchanged_tags_;
};

}  // namespace kevring::detail
