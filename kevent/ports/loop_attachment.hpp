// loop_attachment.hpp: a queue on one loop: its requests, its timer, and the tasks that wait.
#pragma once

#include <kevring/kevent/detail/readiness_watch.hpp>
#include <kevring/kevent/ports/loop_port.hpp>
#include <kevring/kevent/ports/loop_request.hpp>
#include <kevring/runtime/cancel_scope.hpp>
#include <kevring/runtime/detail/intrusive_list.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/ring_service.hpp>
#include <kevring/runtime/timer_queue.hpp>
#include <kevring/runtime/work.hpp>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace kevring::detail {

// A queue on one loop. Stays with the loop until the kernel has completed its last request.
//
// Thread      The loop's, but for members that are guarded by the state's mutex.
class loop_port::attachment {
public:
    attachment(attachments& owner, ring& loop, std::shared_ptr<state> shared)
        : loop_(loop),
          waits_(std::make_unique<readiness_watch>()),
          owner_(owner),
          state_(std::move(shared)) {}
    attachment(const attachment&) = delete;
    attachment& operator=(const attachment&) = delete;
    ~attachment();

    ring& loop() const noexcept { return loop_; }
    readiness_watch& waits() const noexcept { return *waits_; }
    state& shared() const noexcept { return *state_; }

    // Under the state's mutex.

    /// Has the loop run apply_changes(); any thread.
    void post() noexcept;
    /// Makes the request of a slot follow it. Result: 0, or -ENOMEM: to be tried again.
    int apply(slot& target) noexcept;
    void set_timer() noexcept;
    /// The queue is on this loop no more: its requests end. May destroy the attachment.
    void end() noexcept;

    // Without it.

    int take(std::span<edge> edges) noexcept;
    void record(request& from, std::uint32_t bits) noexcept;
    /// Records what the kernel knows by now, ahead of the loop's next iteration.
    void record_all() noexcept;
    /// The kernel has completed a request or a change for the last time.
    void ended(request& which, int error_number) noexcept;
    /// Looks through all slots in the next iteration.
    void arm_later() noexcept;
    /// The ring takes no request any more.
    void abandon_requests() noexcept { is_abandoned_ = true; }

private:
    struct deadline_timer : timer_node {
        deadline_timer(attachment& owner, fire_function fire) noexcept
            : timer_node(fire), owner(owner) {}
        attachment& owner;
    };
    struct own_work : work {
        own_work(attachment& owner, run_function function) noexcept
            : work(function), owner(owner) {}
        attachment& owner;
    };

    void arm(request& which) noexcept;
    void change(request& which) noexcept;
    void retire(request& which) noexcept;
    void destroy(request& which) noexcept;
    void apply_changes() noexcept;
    void arm_again() noexcept;
    void retry_later() noexcept;
    bool destroy_if_over() noexcept;

    ring& loop_;
    // A ring that gives up on its tasks leaves them in this list: then it is kept for good.
    std::unique_ptr<readiness_watch> waits_;
    attachments& owner_;
    const std::shared_ptr<state> state_;
    list_link requests_;
    list_link seen_;
    bool timer_expired_ = false;
    bool arms_later_ = false;
    bool is_over_ = false;
    bool is_abandoned_ = false;
    deadline_timer timer_{*this, [](timer_node& node) noexcept {
                              attachment& self = static_cast<deadline_timer&>(node).owner;
                              self.timer_expired_ = true;
                              self.waits_->wake();
                          }};
    deadline_timer retry_{*this, [](timer_node& node) noexcept {
                              static_cast<deadline_timer&>(node).owner.arm_later();
                          }};
    own_work arming_{*this,
                     [](work& item) noexcept { static_cast<own_work&>(item).owner.arm_again(); }};

    // Guarded by the state's mutex.
    bool is_posted_ = false;
    own_work posted_{
        *this, [](work& item) noexcept { static_cast<own_work&>(item).owner.apply_changes(); }};
};

// The attachments of one ring. When the ring begins to end, it takes its queues off.
class loop_port::attachments final : public ring_service {
public:
    explicit attachments(ring& loop) noexcept : loop_(loop), closing_(*this) {
        loop_.root_scope().add(closing_);
    }
    ~attachments() override;

    attachment& add(std::shared_ptr<state> shared) {
        all_.reserve(all_.size() + 1);
        all_.push_back(std::make_unique<attachment>(*this, loop_, std::move(shared)));
        return *all_.back();
    }
    void destroy(attachment& which) noexcept {
        const auto place = std::find_if(all_.begin(), all_.end(),
                                        [&](const auto& each) { return each.get() == &which; });
        std::swap(*place, all_.back());
        all_.pop_back();
    }

private:
    struct closing_hook : cancel_hook {
        explicit closing_hook(attachments& owner) noexcept
            : cancel_hook([](cancel_hook& hook, stop_cause) noexcept {
                  static_cast<closing_hook&>(hook).owner.end_all();
              }),
              owner(owner) {}
        attachments& owner;
    };

    void end_all() noexcept;

    ring& loop_;
    closing_hook closing_;
    std::vector<std::unique_ptr<attachment>> all_;
};

}  // namespace kevring::detail
