// origin.hpp: which registrations of this process watch the same socket or pipe.
//
// Activity of an origin is for one of its registrations: the oldest whose test says ready. Younger
// ones hear of it only if they asked for all (KEVENT_REQ_WAKEUP_ALL), in whatever queues they are.
// The kernel tells all of them; who is not the first keeps silent.
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
    /// Whether `poll_bits` make a registration with that event mask ready.
    using ready_test = bool (*)(std::uint32_t event, std::uint32_t poll_bits) noexcept;

    origin_member() = default;
    ~origin_member() { leave(); }

    /// Joins the registrations of the file that stat(2) calls `device` and `inode`; throws
    /// std::bad_alloc. Not armed.
    void join(dev_t device, ino_t inode, ready_test is_ready);
    void leave() noexcept;

    void set_armed(bool armed, std::uint32_t event) noexcept;
    /// True if there are others.
    bool shares() const noexcept;
    /// True if an older one that is armed takes an activity with `poll_bits`.
    bool older_takes(std::uint32_t poll_bits) const noexcept;

private:
    // Written under the table's lock.
    origin* of_ = nullptr;
    ready_test is_ready_ = nullptr;
    bool armed_ = false;
    std::uint32_t event_ = 0;
};

}  // namespace kevring::detail
