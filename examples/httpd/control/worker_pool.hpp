// worker_pool.hpp: the server's loops, as the control loop sees them.
#pragma once

#include "examples/httpd/observe/metrics_server.hpp"
#include "examples/httpd/observe/worker_report.hpp"
#include "examples/httpd/serving/worker.hpp"

#include <kevring/kevent/event_queue.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/task.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

namespace httpd {

/// Outlives the loops, and with it what is on its way to them.
class crew final : public report_source {
public:
    // Notes that tell that the last loop has begun to serve, or has left.
    static constexpr kevring::note all_serve{1};
    static constexpr kevring::note all_have_left{2};

    /// `events` is told what the loops have to say; it is the control loop's.
    ///
    /// Lifetime   `events` outlives this.
    crew(unsigned loop_count, kevring::event_queue& events);

    // Called on the control loop, or before there are others.

    /// What the loops are to do from now on; those that have not begun begin with it. `opened` has
    /// a list for each loop.
    void change(const std::shared_ptr<const configuration>& with,
                std::vector<std::vector<opened_door>> opened, const std::vector<unsigned>& closed);
    void retire() noexcept { ask_all(&member::retire); }
    void drain() noexcept { ask_all(&member::drain); }
    kevring::task<void> refresh() override;
    const report_slot& slot(std::size_t index) const noexcept override {
        return members_[index].last;
    }
    std::size_t slot_count() const noexcept override { return members_.size(); }

    // Called on the loop with that index.

    worker_change first_change(unsigned index);
    report_slot& slot(unsigned index) noexcept { return members_[index].last; }
    void join(unsigned index, worker& who);
    void leave(unsigned index) noexcept;

private:
    struct member;

    /// Something that other threads ask of a loop, any number of times; asked again before it has
    /// been done, it is done once.
    class request : private kevring::work {
    public:
        using function = void (*)(member&);
        request(member& to, function what) noexcept : work(arrived), to_(to), what_(what) {}

        void send(kevring::ring& on) noexcept {
            // acq_rel: pairs with the same in arrived(); the item is in one mailbox at most.
            if (!pending_.exchange(true, std::memory_order_acq_rel)) on.post(*this);
        }

    private:
        static void arrived(work& item) noexcept;

        member& to_;
        const function what_;
        std::atomic<bool> pending_{false};
    };

    struct member {
        explicit member(crew& in) noexcept : in(in) {}
        // Constant after construction.
        crew& in;
        // Written on its loop.
        worker* who = nullptr;  // null before join() and after leave()
        // Sent from the control loop.
        request drain{*this, [](member& to) { to.who->drain(); }};
        request retire{*this, [](member& to) { to.who->retire(); }};
        request report{*this, [](member& to) { to.who->report(); }};
        request change{*this, [](member& to) { to.in.take_changes(to); }};
        // Read and written on any thread.
        report_slot last;
        // Guarded by mutex_.
        kevring::ring* on = nullptr;         // where `who` is
        std::vector<worker_change> changes;  // that it has not taken yet
    };

    void ask_all(request member::* what) noexcept;
    void take_changes(member& to);
    bool all_have_reported(const std::vector<std::uint64_t>& after) noexcept;

    kevring::event_queue& events_;
    kevring::event_queue reports_;
    std::deque<member> members_;
    // Guarded by mutex_: what follows, and some of each member.
    std::mutex mutex_;
    std::size_t joined_count_ = 0;
    std::size_t left_count_;
    bool draining_ = false;
};

}  // namespace httpd
