// ring_port.hpp: a port for one thread, which owns an io_uring of the queue.
//
// Each watched descriptor is one multishot poll. Changes are noted in user memory; flush() and
// poll() submit all of them and collect in the same io_uring_enter(2). The ring is made with
// DEFER_TASKRUN: the kernel queues a completion without interrupting the owner, and the owner's next
// enter delivers it. A flag in shared memory says that there is one, so that a poll() in vain makes
// no enter.
//
// Reports     The list of reports holds a descriptor at most once, with the bits of all its
//             completions. So memory is bounded by the number of descriptors, and a report is
//             delivered once, as by an epoll set.
// Control     An epoll set in which nothing is armed by the watched descriptors. It holds an eventfd
//             that the kernel signals for a completion while the owner makes no call, one for
//             `readable`, and a timerfd for `timer`, all level-triggered. Only a poll() that finds
//             nothing resets the first one: the control descriptor is never unreadable while there
//             is a report. The kernel does not signal an eventfd within a write to another one, but
//             later: an event of an eventfd, or of another queue, makes the control descriptor
//             readable after some milliseconds. The owner's sleep does not depend on it. A kernel that
//             signals it late for all events (event_signal.hpp) is not asked to: there the set holds
//             the ring's own descriptor too, which is readable at once.
// Sleeping    io_uring_enter(2), which submits, sleeps and delivers in one call. The ring itself
//             polls what ends a sleep: an eventfd for other threads, the timerfd, and the signalfds
//             of handler_watch. A cancelled thread leaves all completions in the ring.
// Thread      The first thread that claims the port owns it. disarm(), and arm() and change() with
//             effect at the owner's next call, work on any thread; so do the calls documented so in
//             port.hpp.
#pragma once

#include <kevring/kevent/ports/handler_watch.hpp>
#include <kevring/kevent/ports/own_ring.hpp>
#include <kevring/kevent/ports/port.hpp>
#include <kevring/kevent/ports/thread_mark.hpp>
#include <kevring/kevent/ports/watched_slot.hpp>
#include <kevring/runtime/detail/hidden_fd.hpp>

#include <array>
#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

namespace kevring::detail {

class ring_port final : public port {
public:
    /// Errors     Throws std::system_error; of io_uring_setup(2) if the system refuses io_uring.
    ring_port();
    ~ring_port() override;

    std::string_view name() const noexcept override { return "ring"; }
    bool reports_present_state() const noexcept override { return false; }
    bool identifies_control() const noexcept override { return identifies_; }

    int claim() noexcept override;
    int arm(int number, std::uint32_t poll_bits, std::uint64_t tag) noexcept override;
    int change(int number, std::uint32_t poll_bits, std::uint64_t tag) noexcept override;
    int check_pollable(int number) noexcept override;
    void disarm(int number, std::uint64_t tag) noexcept override;
    bool begin_identification(int number) noexcept override;
    control_identity end_identification() noexcept override;
    void prepare_change(std::uint64_t tag) noexcept override;
    int flush() noexcept override;
    void set_readable(bool is_readable) noexcept override;
    int create_timer() noexcept override;
    int arm_timer(std::int64_t deadline_ns) noexcept override;

    int poll(std::span<edge> edges) noexcept override;
    int wait(const timespec* timeout) override;
    void report_again(int number, std::uint32_t poll_bits, std::uint64_t tag) noexcept override;
    void wake_one() noexcept override;

    fd_ref control() const noexcept override { return set_; }
    int release_control() noexcept override;

private:
    class collection;
    class quiet_sleep;

    // Descriptors of the port that its ring polls.
    enum own_poll : std::uint32_t {
        wake_poll,
        timer_poll,
        handled_poll,
        other_poll,
        own_poll_count
    };

    using slot = watched_slot;
    template <std::uint32_t slot::* next, bool slot::* is_linked>
    using slot_list = watched_slot_list<next, is_linked>;
    // In the user data of a request, the index of the first own_poll.
    static constexpr std::uint32_t own_first = 1U << 31;
    // The same of a request that identifies the control file.
    static constexpr std::uint32_t identification_index = own_first + own_poll_count;

    bool is_owner() const noexcept {
        return owner_ != nullptr && owner_->thread == thread_marks::present;
    }
    int renew_ring() noexcept;
    std::unique_ptr<own_ring> make_ring() const;

    slot* find_slot(std::uint64_t tag) noexcept;
    void note_report(std::uint32_t index, std::uint32_t poll_bits) noexcept;
    void collect() noexcept;
    void prepare_own_polls() noexcept;
    void prepare_identification() noexcept;
    void prepare_changes() noexcept;
    void test_watched() noexcept;
    void take_completions() noexcept;
    void complete(std::uint64_t user_data, std::int32_t res, std::uint32_t flags) noexcept;
    void take_repeated() noexcept;
    unsigned take_reports(std::span<edge> edges) noexcept;
    void arm_all() noexcept;
    int insert_set(slot& entry) noexcept;
    void remove_set(slot& entry) noexcept;
    int number_of(own_poll which) const noexcept;
    void signal_event() const noexcept;
    void reset_event() noexcept;
    void alert_owner() noexcept;

    // Constant after construction.
    hidden_fd set_;
    const bool polls_ring_;  // the set holds the ring, and the kernel signals no eventfd
    hidden_fd event_fd_;     // the kernel signals it for completions
    hidden_fd readable_fd_;
    hidden_fd wake_fd_;
    handler_watch handlers_;  // used by the owner
    const bool identifies_;   // by a request of the ring

    // Under the queue's lock.
    hidden_fd timer_fd_;
    std::unique_ptr<own_ring> ring_;
    std::shared_ptr<thread_mark> owner_;
    std::vector<slot> slots_;
    slot_list<&slot::next_change, &slot::is_changed> changes_;  // requests to submit
    slot_list<&slot::next_test, &slot::is_tested> tests_;       // to be tested by poll(2)
    slot_list<&slot::next_report, &slot::is_reported> reports_;
    std::array<std::uint32_t, own_poll_count> own_serials_{};  // of their last requests
    std::uint32_t own_changes_;                                // by own_poll: requests to submit
    bool is_readable_ = false;
    int unidentified_ = -1;  // the number that the next collection has to identify
    control_identity identity_ = control_identity::unknown;
    std::uint32_t identification_serial_ = 0;
    std::uint64_t call_number_ = 1;  // numbers the calls that flush

    // event_fd_. Under the queue's lock.
    bool is_certain_ = false;     // it was signalled here, and not reset since
    bool was_signalled_ = false;  // by a completion that the present collection takes
    bool was_deferred_ = false;   // a signal of the kernel was, maybe, since it was registered
    unsigned busy_polls_ = 0;     // that found completions at once, one after another

    // Written by the owner.
    bool is_awake_ = false;  // wake_one() was called since the last sleep

    // Guarded by repeated_mutex_.
    struct repeated_report {
        std::uint64_t tag;
        std::uint32_t poll_bits;
    };
    std::mutex repeated_mutex_;
    std::vector<repeated_report> repeated_;
    bool tests_all_ = false;  // memory for a repeated report was exhausted

    std::atomic<bool> has_repeated_{false};
};

}  // namespace kevring::detail
