// origin.hpp: which registrations of this process watch the same socket or pipe.
//
// Activity of an origin is for one of its registrations: the oldest whose test says ready. Younger
// ones hear of it only if they asked for all (KEVENT_REQ_WAKEUP_ALL), in whatever queues they are.
// The kernel tells all of them what is true, not what has become so; who waits for nothing that an
// older one does not wait for keeps silent.
//
// Thread      Any. The table's lock is taken under a queue's, never the other way round.
// Spec        7.1; K-097.
#pragma once

#include <kevring/runtime/detail/intrusive_list.hpp>

#include <cstdint>

#include <sys/types.h>

namespace kevring::detail {

struct origin;

/// One registration in the list of its origin, from oldest to youngest.
class origin_member : private list_link {
public:
    /// The events of the mask that `poll_bits` make true.
    using ready_test = std::uint32_t (*)(std::uint32_t event, std::uint32_t poll_bits) noexcept;

    origin_member() = default;
    ~origin_member() { leave(); }

    /// Joins the registrations of the file that stat(2) calls `device` and `inode`; throws
    /// std::bad_alloc. Not armed. `possible_bits` are those that its descriptor can report.
    void join(dev_t device, ino_t inode, ready_test is_ready, std::uint32_t possible_bits);
    void leave() noexcept;

    void set_armed(bool armed, std::uint32_t event) noexcept;
    /// It takes nothing any more but what is in `event` too.
    void narrow(std::uint32_t event) noexcept;
    /// True if there are others.
    bool shares() const noexcept;
    /// True if, whichever of `poll_bits` was active, an older one that is armed takes it.
    bool older_takes(std::uint32_t poll_bits) const noexcept;

    /// In the child of a fork(): those that it has from its parent are told of nothing there, and
    /// so take nothing.
    static void begin_child() noexcept;

private:
    // Written under the table's lock.
    origin* of_ = nullptr;
    ready_test is_ready_ = nullptr;
    std::uint32_t possible_bits_ = 0;
    bool armed_ = false;
    std::uint32_t event_ = 0;
};

}  // namespace kevring::detail
