// loop_attachment.cpp: see loop_attachment.hpp.
#include <kevring/kevent/ports/loop_attachment.hpp>

#include <kevring/runtime/kernel.hpp>

#include <cerrno>
#include <cstddef>
#include <mutex>
#include <new>

#include <poll.h>

namespace kevring::detail {
namespace {

// After the kernel had no memory for a request, the loop waits this long before it tries again.
constexpr std::int64_t retry_ns = 10'000'000;

// Enters of one poll. Each runs at least 20 completions.
constexpr unsigned round_max = 1024;

}  // namespace

// Hot path, on the loop's thread: no allocation, no mutex and no system call.

void loop_port::attachment::record(request& from, std::uint32_t bits) noexcept {
    from.seen_bits |= bits;
    if (!from.in_seen.linked()) from.in_seen.insert_before(seen_);
    waits_->wake();
}

int loop_port::attachment::take(std::span<edge> edges) noexcept {
    std::size_t count = 0;
    if (timer_expired_ && !edges.empty()) {
        timer_expired_ = false;
        edges[count++] = {timer, POLLIN};
    }
    while (count < edges.size() && seen_.linked()) {
        request& first = static_cast<request::owner_link*>(seen_.next)->self;
        first.in_seen.unlink();
        edges[count++] = {first.tag, std::exchange(first.seen_bits, 0)};
    }
    return static_cast<int>(count);
}

// Requests.

// submit() follows, under the same lock: then the kernel holds the file, and the owner of the number
// may close it.
void loop_port::attachment::arm(request& which) noexcept {
    which.is_in_kernel = true;
    which.is_change_wanted = false;
    loop_.queue(which);
}

void loop_port::attachment::change(request& which) noexcept {
    if (which.is_change_in_kernel) {
        which.is_change_wanted = true;
        return;
    }
    which.is_change_in_kernel = true;
    loop_.queue(which.changing);
}

// Completions stay in the queue for the loop, since it may resume no coroutine here; those of this
// attachment have no bits left then.
void loop_port::attachment::record_all() noexcept {
    io_uring& native = loop_.native();
    loop_.submit();
    const auto kernel_has_work = [&]() noexcept {
        return (__atomic_load_n(native.sq.kflags, __ATOMIC_ACQUIRE) &
                (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
    };
    // One enter runs a part of the work where there is much. The bound is for a queue that is full.
    for (unsigned round = 0; kernel_has_work() && round < round_max; ++round)
        loop_.system().ring_enter(native, 0, 0, IORING_ENTER_GETEVENTS, nullptr);
    const unsigned tail = __atomic_load_n(native.cq.ktail, __ATOMIC_ACQUIRE);
    for (unsigned head = *native.cq.khead; head != tail; ++head) {
        io_uring_cqe& entry = native.cq.cqes[head & native.cq.ring_mask];
        if (entry.user_data < user_data_first_address || entry.res <= 0) continue;
        const auto address =
            static_cast<std::uintptr_t>(entry.user_data & ~std::uint64_t{user_data_refused});
        auto* const which = dynamic_cast<request*>(reinterpret_cast<completion*>(address));
        if (which == nullptr || &which->owner != this || which->is_detached) continue;
        record(*which, static_cast<std::uint32_t>(std::exchange(entry.res, 0)));
    }
}

// `which` is out of its slot.
void loop_port::attachment::retire(request& which) noexcept {
    which.is_detached = true;
    which.in_seen.unlink();
    if (which.is_in_kernel && !is_abandoned_) loop_.queue_cancel(which);
    if (!which.is_in_kernel && !which.is_change_in_kernel) destroy(which);
}

void loop_port::attachment::destroy(request& which) noexcept {
    which.in_all.unlink();
    which.in_seen.unlink();
    delete &which;
}

void loop_port::attachment::ended(request& which, int error_number) noexcept {
    if (which.is_detached) {
        if (which.is_in_kernel || which.is_change_in_kernel) return;
        destroy(which);
        if (is_over_) arm_later();  // which destroys the attachment
        return;
    }
    if (loop_.closing()) return;
    if (error_number == -ENOMEM || error_number == -EAGAIN) return retry_later();
    // A descriptor that cannot be polled reports an error, and is not armed again.
    if (error_number != 0 && error_number != -ECANCELED) return record(which, POLLERR | POLLHUP);
    // Without an error its end has other reasons, a full completion queue for one: nothing
    // registered stays without a request.
    arm_later();
}

void loop_port::attachment::arm_later() noexcept {
    if (std::exchange(arms_later_, true)) return;
    loop_.schedule(arming_);
}

void loop_port::attachment::retry_later() noexcept {
    if (!retry_.armed()) loop_.timers().arm(retry_, loop_.now_ns() + retry_ns);
}

void loop_port::attachment::arm_again() noexcept {
    std::unique_lock held(state_->mutex);
    arms_later_ = false;
    if (is_over_ || loop_.closing()) {
        held.unlock();
        destroy_if_over();
        return;
    }
    for (slot& each : state_->slots) {
        request* const which = each.armed;
        if (each.is_used && which == nullptr && apply(each) != 0) retry_later();
        if (which == nullptr) continue;
        if (!which->is_in_kernel) {
            arm(*which);
        } else if (std::exchange(which->is_change_wanted, false)) {
            change(*which);
        }
    }
    loop_.submit();
}

int loop_port::attachment::apply(slot& target) noexcept {
    if (target.armed != nullptr && (!target.is_used || target.armed->tag != target.tag))
        retire(*std::exchange(target.armed, nullptr));
    if (!target.is_used) return 0;
    const bool has_changed = std::exchange(target.has_changed, false);
    if (target.armed == nullptr) {
        request* const made = new (std::nothrow) request(*this, target);
        if (made == nullptr) return -ENOMEM;
        made->in_all.insert_before(requests_);
        target.armed = made;
        arm(*made);
    } else if (has_changed) {
        target.armed->poll_bits = target.poll_bits;
        if (target.armed->is_in_kernel) change(*target.armed);
    }
    return 0;
}

// Changes that other threads have made, on the loop's thread.
void loop_port::attachment::apply_changes() noexcept {
    std::unique_lock held(state_->mutex);
    is_posted_ = false;
    if (state_->current.load(std::memory_order_relaxed) != this) {
        if (!is_over_) return end();
        held.unlock();
        destroy_if_over();
        return;
    }
    for (const std::uint32_t index : state_->changes) {
        slot& changed = state_->slots[index];
        changed.is_recorded = false;
        if (apply(changed) != 0) retry_later();
    }
    state_->changes.clear();
    loop_.submit();
    set_timer();
    waits_->wake();
}

void loop_port::attachment::post() noexcept {
    if (std::exchange(is_posted_, true)) return;
    loop_.post(posted_);
}

void loop_port::attachment::set_timer() noexcept {
    const std::int64_t deadline_ns = state_->deadline_ns;
    if (timer_.armed() && timer_.deadline_ns() == deadline_ns) return;
    loop_.timers().disarm(timer_);
    if (deadline_ns != 0) loop_.timers().arm(timer_, deadline_ns);
}

void loop_port::attachment::end() noexcept {
    is_over_ = true;
    loop_.timers().disarm(timer_);
    loop_.timers().disarm(retry_);
    for (list_link *link = requests_.next, *next; link != &requests_; link = next) {
        next = link->next;
        request& which = static_cast<request::owner_link*>(link)->self;
        if (!which.is_detached) retire(which);
    }
    waits_->wake();
    arm_later();  // which destroys this, when nothing else does
}

bool loop_port::attachment::destroy_if_over() noexcept {
    {
        const std::lock_guard held(state_->mutex);
        if (!is_over_ || is_posted_ || arms_later_ || requests_.linked() || waits_->has_waits())
            return false;
    }
    owner_.destroy(*this);
    return true;
}

loop_port::attachment::~attachment() {
    // Armed still, if another thread has left the loop for the queue and the loop has not run since.
    if (timer_.armed()) loop_.timers().disarm(timer_);
    if (retry_.armed()) loop_.timers().disarm(retry_);
    while (requests_.linked()) {
        request& which = static_cast<request::owner_link*>(requests_.next)->self;
        destroy(which);
    }
    if (waits_->has_waits()) static_cast<void>(waits_.release());
}

// The end of a ring.

void loop_port::attachments::end_all() noexcept {
    for (std::size_t i = 0; i < all_.size(); ++i) {
        attachment& each = *all_[i];
        state& shared = each.shared();
        const std::lock_guard held(shared.mutex);
        if (shared.current.load(std::memory_order_relaxed) != &each) continue;
        shared.loop.store(nullptr, std::memory_order_relaxed);
        shared.current.store(nullptr, std::memory_order_relaxed);
        for (slot& slot : shared.slots) slot.armed = nullptr;
        each.abandon_requests();  // the ring cancels them all
        each.end();
    }
}

loop_port::attachments::~attachments() {
    closing_.unlink();
    if (loop_.created_by_parent_process()) {
        // The queues are the parent's, and so are the locks. They stay as they are, where a leak
        // checker sees them.
        static auto& kept = *new std::vector<std::unique_ptr<attachment>>;
        for (auto& each : all_) kept.push_back(std::move(each));
        return;
    }
    end_all();  // of a ring that another thread destroys
}

}  // namespace kevring::detail
