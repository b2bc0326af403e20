// ring_setup.cpp: creation of a ring, its owner, and what is registered with it.
#include <kevring/runtime/ring.hpp>

#include <kevring/runtime/assert.hpp>
#include <kevring/runtime/detail/hidden_fd.hpp>
#include <kevring/runtime/detail/ring_state.hpp>
#include <kevring/runtime/detail/uring.hpp>
#include <kevring/runtime/features.hpp>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <stdexcept>
#include <system_error>
#include <utility>

#include <poll.h>
#include <sys/eventfd.h>

namespace kevring {

using detail::this_thread;

ring::ring(ring_options options, kernel& system)
    : system_(system),
      options_(options),
      uring_(std::make_unique<io_uring>()),
      timers_(system.steady_ns()) {
    set_up();
}

[[gnu::cold]] void ring::set_up() {
    system_is_real_ = &system_ == &kernel::real();
    io_uring_params params{};
    params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                   IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE |
                   IORING_SETUP_CLAMP | IORING_SETUP_R_DISABLED;
    const unsigned submission_entries = std::max(options_.submission_entries, 1U);
    params.cq_entries = std::max(options_.completion_entries, submission_entries);
    const int made = system_.ring_setup(submission_entries, params, *uring_);
    if (made < 0)
        throw std::system_error(-made, std::system_category(), explain_ring_failure(-made));

    sq_head_ = uring_->sq.khead;
    sq_tail_ = uring_->sq.ktail;
    sq_flags_ = uring_->sq.kflags;
    cq_head_ = uring_->cq.khead;
    cq_tail_ = uring_->cq.ktail;
    sqes_ = uring_->sq.sqes;
    cqes_ = uring_->cq.cqes;
    sq_entries_ = params.sq_entries;
    sq_mask_ = sq_entries_ - 1;
    cq_mask_ = params.cq_entries - 1;
    entry_tail_ = *sq_tail_;
    // The kernel finds entries through an index array; ours are always in their own order. Newer
    // versions of liburing ask for rings that have none.
    if (uring_->sq.array != nullptr)
        for (unsigned i = 0; i < sq_entries_; ++i) uring_->sq.array[i] = i;
    if ((params.features & detail::feature_no_iowait) != 0 && features::get().no_iowait)
        wait_flags_ |= detail::enter_no_iowait;

    wake_by_message_ = features::get().send_message && &system_ == &kernel::real();
    if (!wake_by_message_) {
        wake_fd_ = detail::above_standard(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
        if (wake_fd_ < 0) {
            const int error = errno;
            system_.ring_exit(*uring_);
            throw std::system_error(error, std::system_category(), "kevring: eventfd");
        }
    }
}

// The ring is made disabled, so that any thread can make it; the first thread to drive it owns it.
[[gnu::cold]] void ring::claim() {
    if (created_by_parent_process())
        throw std::system_error(
            EPERM, std::system_category(),
            "kevring: this ring belongs to the parent process; make a new one after fork()");
    const std::uint64_t owner = owner_.load(std::memory_order_relaxed);
    if (owner != 0) {
        KEVRING_ASSERT(owner == this_thread(),
                       "ring driven by a second thread; post() to it from other threads, or create "
                       "one ring per thread");
        return;
    }
    const int enabled = system_.ring_register(*uring_, IORING_REGISTER_ENABLE_RINGS, nullptr, 0);
    if (enabled < 0)
        throw std::system_error(-enabled, std::system_category(), "kevring: enabling a ring");
    owner_.store(this_thread(), std::memory_order_relaxed);
    if (!wake_by_message_) arm_wake();
    mark_asleep();  // a foreign loop may poll before the first iteration
}

[[gnu::cold]] void ring::arm_wake() {
    io_uring_sqe& entry = next_entry();
    entry.opcode = IORING_OP_POLL_ADD;
    entry.fd = wake_fd_;
    entry.len = IORING_POLL_ADD_MULTI;
    entry.poll32_events = POLLIN;
    entry.user_data = detail::user_data_wake;
}

int ring::register_resource(unsigned opcode, void* argument, unsigned count) noexcept {
    if (created_by_parent_process()) return -EPERM;
    return system_.ring_register(*uring_, opcode, argument, count);
}

[[gnu::cold]] void ring::store_service(std::unique_ptr<ring_service> created,
                                       const void* key) noexcept {
    created->key_ = key;
    created->next_ = std::move(services_);
    services_ = std::move(created);
}

// The newest first: a service may use those that its constructor found. One that is being destroyed
// is found no longer.
[[gnu::cold]] void ring::destroy_services() noexcept {
    while (services_) {
        const std::unique_ptr<ring_service> newest = std::move(services_);
        services_ = std::move(newest->next_);
    }
}

[[gnu::cold]] std::uint16_t ring::acquire_buffer_group() {
    if (!free_buffer_groups_.empty()) {
        const std::uint16_t group = free_buffer_groups_.back();
        free_buffer_groups_.pop_back();
        return group;
    }
    if (buffer_groups_made_ > 0xffff)
        throw std::length_error("kevring: 65536 buffer pools on one ring");
    free_buffer_groups_.reserve(buffer_groups_made_ + 1);  // first: giving back must not fail
    return static_cast<std::uint16_t>(buffer_groups_made_++);
}

[[gnu::cold]] void ring::release_buffer_group(std::uint16_t group) noexcept {
    free_buffer_groups_.push_back(group);
}

ring_counters ring::counters() const noexcept {
    ring_counters now;
    now.enters = counters_.enters.get();
    now.requests = counters_.requests.get();
    now.completions = counters_.completions.get();
    now.cancels = counters_.cancels.get();
    now.full_submissions = counters_.full_submissions.get();
    now.overflows = counters_.overflows.get();
    now.punts = counters_.punts.get();
    now.wakes_sent = counters_.wakes_sent.get();
    now.iterations = counters_.iterations.get();
    return now;
}

}  // namespace kevring
