// shared_file.hpp: the registrations of this process that watch the same socket or pipe.
//
// One activity of a file is for one of its registrations: the oldest whose test is positive. A
// younger one is notified only if it has KEVENT_REQ_WAKEUP_ALL, in whatever queues they are. The
// kernel reports to all of them which bits are set, not which bits have changed; a registration
// whose satisfied bits are all wanted by older ones keeps silent.
//
// A registration that kept silent is reported again if the older one goes before it has collected
// the event, by REMOVE or with its queue. An older one whose queue was closed, and not yet
// released, does not count.
//
// Thread      Any. The lock of the table is taken under a queue's, never the other way round.
// Spec        7.1; K-097.
#pragma once

#include <kevring/kevent/detail/source.hpp>
#include <kevring/runtime/detail/intrusive_list.hpp>
#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/thread_mutex.hpp>

#include <cstdint>

#include <sys/types.h>

struct stat;

namespace kevring::detail {

struct shared_file;

/// Guards the registrations of all shared files. Never destroyed: queues may be destroyed late.
extern constinit thread_mutex shared_file_mutex;

/// Tells an open file from all others that are open at the same time.
struct file_identity {
    dev_t device = 0;
    std::uint64_t number = 0;
    friend bool operator==(const file_identity&, const file_identity&) = default;
};

/// The identity of the file behind `file`, whose stat(2) is `status`. Inode numbers of sockets have
/// 32 bits and are used again after 2^32 files: two sockets can have the same. So a socket is
/// identified by its cookie (SO_COOKIE), which is unique.
file_identity identify_file(fd_ref file, const struct stat& status) noexcept;

/// One registration in the list of its file, from oldest to youngest.
class shared_file_entry : private list_link {
public:
    /// The events of the mask that `poll_bits` satisfy.
    using ready_test = std::uint32_t (*)(std::uint32_t event, std::uint32_t poll_bits) noexcept;

    explicit shared_file_entry(source_host& host) noexcept : host_(host) {}
    ~shared_file_entry() { leave(); }

    /// Joins the registrations of `file`; throws std::bad_alloc. Not armed. `possible_bits` are
    /// those that its descriptor can report.
    void join(const file_identity& file, ready_test is_ready, std::uint32_t possible_bits);
    /// Leaves them. An event that this one has taken and not delivered goes to the next.
    void leave() noexcept;

    /// Armed from now on: `watch` reports the bits of `event`.
    void set_armed(const fd_watch& watch, std::uint32_t event) noexcept;
    void set_disarmed() noexcept;
    /// First in a change of the mask: takes only events that are in both masks, and is not asked to
    /// report again until set_armed().
    void restrict_mask(std::uint32_t event) noexcept;

    /// True if there are others.
    bool is_shared() const noexcept;
    /// True if an older one that is armed consumes the activity, whichever of `poll_bits` it was.
    bool consumed_by_older(std::uint32_t poll_bits) noexcept;
    /// True if a younger one kept silent for this one since the last set_delivered().
    bool owes_event() const noexcept;
    /// Its event is delivered, or was none.
    void set_delivered() noexcept;
    /// Tells the events that it owes by now from those of later activity. True: there are some.
    bool suspend_debt() noexcept;
    /// Ends that: it owes those before only if they are still undelivered. False: there were none, or
    /// they were delivered since.
    bool resume_debt(bool is_undelivered) noexcept;

private:
    friend struct shared_file_table;

    source_host& host_;
    // Written by join() and leave() under the locks of the queue and of the table, read under either.
    shared_file* file_ = nullptr;
    ready_test is_ready_ = nullptr;
    std::uint32_t possible_bits_ = 0;

    bool armed_ KEVRING_GUARDED_BY(shared_file_mutex) = false;
    // Between restrict_mask() and set_armed().
    bool changing_ KEVRING_GUARDED_BY(shared_file_mutex) = false;
    // A younger one kept silent for it.
    bool owes_event_ KEVRING_GUARDED_BY(shared_file_mutex) = false;
    // When suspend_debt() was called.
    bool owed_event_ KEVRING_GUARDED_BY(shared_file_mutex) = false;
    bool kept_silent_ KEVRING_GUARDED_BY(shared_file_mutex) = false;  // for an older one
    std::uint32_t event_ KEVRING_GUARDED_BY(shared_file_mutex) = 0;
    fd_watch watch_ KEVRING_GUARDED_BY(shared_file_mutex);
};

}  // namespace kevring::detail
