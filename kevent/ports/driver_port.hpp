// driver_port.hpp: a port that a thread of the library drives, on an io_uring of its own.
//
// Each watched descriptor is one multishot poll on the driver's ring. The driver sleeps in one
// io_uring_enter(2) for all of them, for the timer and for other threads, and then calls its client,
// which fetches the edges. Other threads hand changes over by the driver's mailbox; the driver's own
// calls queue them directly. No thread waits in this port.
//
// The control file is an epoll set, as of every port, and holds no watched descriptor.
#pragma once

#include <kevring/kevent/ports/epoll_port.hpp>
#include <kevring/kevent/ports/port.hpp>
#include <kevring/runtime/clock.hpp>
#include <kevring/runtime/detail/intrusive_list.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/timer_queue.hpp>
#include <kevring/runtime/work.hpp>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include <pthread.h>

namespace kevring::detail {

class driver_port final : public port {
public:
    /// Called on the driver's thread, without a lock, whenever there is something to fetch.
    struct client {
        void (*on_edges)(void* context) noexcept = nullptr;
        void* context = nullptr;
    };

    /// Errors     Throws std::system_error, also where the system refuses io_uring.
    driver_port();
    ~driver_port() override;

    /// Starts the thread, which blocks all signals. Errors: throws std::system_error.
    void start(client called);
    /// Ends the thread and its ring, and so the watching of every descriptor. Does nothing where
    /// the thread has not started. Not on the driver's thread.
    void stop() noexcept;

    std::string_view name() const noexcept override { return "driver"; }
    bool reports_present_state() const noexcept override { return false; }
    int arm(int number, std::uint32_t poll_bits, std::uint64_t tag) noexcept override;
    int change(int number, std::uint32_t poll_bits, std::uint64_t tag) noexcept override;
    int check_pollable(int number) noexcept override { return control_.check_pollable(number); }
    void disarm(int number, std::uint64_t tag) noexcept override;
    void set_readable(bool is_readable) noexcept override { control_.set_readable(is_readable); }
    int create_timer() noexcept override { return 0; }
    void track_removals(removals* of_call) noexcept override;
    void await_removals(removals& of_call) noexcept override;
    void synchronize() noexcept override;
    int arm_timer(std::int64_t deadline_ns) noexcept override;

    /// On a thread other than the driver's it has no edges.
    int poll(std::span<edge> edges) noexcept override;
    int wait(const timespec* timeout) override;
    void report_again(int number, std::uint32_t poll_bits, std::uint64_t tag) noexcept override;
    void wake_one() noexcept override {}

    fd_ref control() const noexcept override { return control_.control(); }
    int release_control() noexcept override { return control_.release_control(); }

private:
    class request;

    bool on_driver_thread() const noexcept { return loop_ != nullptr && loop_->on_ring_thread(); }
    int start_request(int number, std::uint32_t poll_bits, std::uint64_t tag) noexcept;
    void end_request(std::uint64_t tag) noexcept;
    void mail(request& changed, bool disarms) noexcept;
    void post_mail() noexcept;
    void read_mail() noexcept;
    void carry_out(request& changed, bool disarms) noexcept;
    void destroy(request& ended) noexcept;
    void set_alarm(std::int64_t deadline_ns) noexcept;
    std::uint32_t missing_bits(const request& reported) const noexcept;
    void test_all() noexcept;
    void reap_all() noexcept;
    void run() noexcept;
    static void* run_thread(void* self);

    epoll_port control_;

    // Constant while the thread runs. The ring is destroyed by the thread.
    std::unique_ptr<ring> loop_;
    client client_;
    pthread_t thread_{};
    bool has_thread_ = false;

    // Guarded by the queue's lock.
    std::vector<request*> requests_;  // by the low half of the tag; null: not watched
    unsigned ending_count_ = 0;  // requests that are disarmed, and of no REMOVE; guarded by mutex_
    removals* tracked_ = nullptr;  // of the REMOVE under way

    // Guarded by mutex_, which is taken under the queue's lock, never the other way round.
    std::mutex mutex_;
    std::condition_variable progress_;  // requests of a REMOVE, or synchronized_
    bool accepts_mail_ = true;
    bool has_mail_ = false;  // mailbox_ is posted
    request* mail_ = nullptr;
    std::int64_t mailed_deadline_ns_ = 0;  // 0: none
    std::vector<edge> edges_again_;        // of report_again()
    bool tests_all_ = false;               // memory for such an edge was exhausted
    std::uint64_t synchronize_count_ = 0;  // calls of synchronize()
    std::uint64_t synchronized_ = 0;       // those that have been served

    // Written on the driver's thread.
    std::atomic<std::int64_t> alarm_ns_{never_ns};  // read on any
    list_link reported_;                            // requests with bits to report
    bool timer_expired_ = false;
    bool has_edges_ = false;           // ends the iterations of the loop
    std::uint64_t synchronizing_ = 0;  // synchronize_count_ as of the last reading of the mailbox
    bool stop_requested_ = false;
    bool is_closing_ = false;           // the ring is being destroyed, or was
    std::atomic<int> start_result_{1};  // 1: not known yet

    struct mailbox : work {
        explicit mailbox(driver_port& owner) noexcept;
        driver_port& owner;
    };
    struct alarm_clock : timer_node {
        explicit alarm_clock(driver_port& owner) noexcept;
        driver_port& owner;
    };
    struct stop_message : work {
        explicit stop_message(driver_port& owner) noexcept;
        driver_port& owner;
    };
    mailbox mailbox_{*this};
    alarm_clock alarm_{*this};
    stop_message stop_message_{*this};
};

}  // namespace kevring::detail
