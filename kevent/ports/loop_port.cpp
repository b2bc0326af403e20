// loop_port.cpp: see loop_port.hpp.
#include <kevring/kevent/ports/loop_port.hpp>

#include <kevring/runtime/assert.hpp>
#include <kevring/runtime/cancel_scope.hpp>
#include <kevring/runtime/detail/intrusive_list.hpp>
#include <kevring/runtime/detail/uring.hpp>
#include <kevring/runtime/kernel.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/ring_service.hpp>
#include <kevring/runtime/timer_queue.hpp>
#include <kevring/runtime/work.hpp>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <mutex>
#include <new>
#include <system_error>
#include <utility>
#include <vector>

#include <poll.h>

namespace kevring::detail {
namespace {

// After the kernel had no memory for a request, the loop waits this long before it tries again.
constexpr std::int64_t retry_ns = 10'000'000;

// Enters of one look. Each runs at least 20 completions.
constexpr unsigned round_max = 1024;

constexpr std::uint32_t index_of(std::uint64_t tag) noexcept {
    return static_cast<std::uint32_t>(tag);
}

}  // namespace

// A descriptor that the queue watches.
struct loop_port::slot {
    int number = -1;
    std::uint32_t poll_bits = 0;
    std::uint64_t tag = 0;
    bool is_used = false;
    bool has_changed = false;  // its bits, or they are to be reported again
    bool is_recorded = false;  // in `changes`
    request* armed = nullptr;  // of the current attachment
};

// The descriptors of one queue, known to its port and to each loop that it was attached to.
struct loop_port::state {
    std::mutex mutex;

    // Guarded by mutex.
    std::vector<slot> slots;             // by the low half of the tag
    std::vector<std::uint32_t> changes;  // slots that the loop has to look at; never reallocated
    std::int64_t deadline_ns = 0;        // of the port's timer; 0: not set

    // Written under mutex, read also without it.
    std::atomic<attachment*> current{nullptr};  // destroyed on its loop's thread only
    std::atomic<const ring*> loop{nullptr};     // of `current`
};

// The poll of one descriptor. Its memory belongs to the kernel until its last completion.
struct loop_port::request final : completion {
    struct owner_link : list_link {
        explicit owner_link(request& self) noexcept : self(self) {}
        request& self;
    };
    // Changes the bits of the poll, or has those reported that are set.
    struct change final : completion {
        explicit change(request& self) noexcept : self(self) {}
        void prepare(io_uring_sqe& sqe) noexcept override;
        void complete(std::int32_t res, std::uint32_t flags) noexcept override;
        request& self;
    };

    request(attachment& owner, const slot& watched) noexcept
        : owner(owner), number(watched.number), poll_bits(watched.poll_bits), tag(watched.tag) {}

    void prepare(io_uring_sqe& sqe) noexcept override {
        io_uring_prep_poll_multishot(&sqe, number, poll_bits);
    }
    void complete(std::int32_t res, std::uint32_t flags) noexcept override;

    attachment& owner;
    const int number;
    std::uint32_t poll_bits;
    const std::uint64_t tag;
    std::uint32_t seen_bits = 0;  // since the last take()
    owner_link in_all{*this};     // requests of the attachment
    owner_link in_seen{*this};    // with seen_bits
    bool is_in_kernel = false;    // its last completion is to come
    bool is_detached = false;     // of a slot that has left; never armed again
    bool is_change_in_kernel = false;
    bool is_change_wanted = false;  // another change, after the one in the kernel
    change changing{*this};
};

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

// Hot path, on the loop's thread: no allocation, no mutex and no system call.

void loop_port::request::complete(std::int32_t res, std::uint32_t flags) noexcept {
    if (res > 0 && !is_detached) owner.record(*this, static_cast<std::uint32_t>(res));
    if ((flags & IORING_CQE_F_MORE) != 0) return;
    is_in_kernel = false;
    owner.ended(*this, std::min(res, 0));
}

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

int loop_port::poll(std::span<edge> edges) noexcept {
    if (epoll_ != nullptr) return epoll_->poll(edges);
    if (attachment* const here = attachment_here()) return here->take(edges);
    // The loop collects what it has.
    if (state_->current.load(std::memory_order_relaxed) != nullptr) return 0;
    std::unique_ptr<epoll_port> opened;
    if (const int failure = open_epoll(opened); failure != 0) return failure;
    {
        const std::lock_guard held(state_->mutex);
        epoll_ = std::move(opened);
    }
    return epoll_->poll(edges);
}

// The attachment, if the calling thread drives its loop.
loop_port::attachment* loop_port::attachment_here() const noexcept {
    const ring* const loop = state_->loop.load(std::memory_order_relaxed);
    if (loop == nullptr) return nullptr;
    if (loop == ring::current()) return state_->current.load(std::memory_order_relaxed);
    const std::lock_guard held(state_->mutex);  // the loop does not end meanwhile
    attachment* const current = state_->current.load(std::memory_order_relaxed);
    return current != nullptr && current->loop().on_ring_thread() ? current : nullptr;
}

readiness_watch* loop_port::waits(const ring& loop) const noexcept {
    if (state_->loop.load(std::memory_order_relaxed) != &loop) return nullptr;
    // Null: another thread has called share() since.
    attachment* const current = state_->current.load(std::memory_order_relaxed);
    return current != nullptr ? &current->waits() : nullptr;
}

// Called by any thread with a record that tasks wait for.
void loop_port::wake_one() noexcept {
    if (epoll_ != nullptr) return epoll_->wake_one();
    if (attachment* const here = attachment_here()) return here->waits().wake();
    const std::lock_guard held(state_->mutex);
    if (attachment* const current = state_->current.load(std::memory_order_relaxed))
        current->post();
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

void loop_port::request::change::prepare(io_uring_sqe& sqe) noexcept {
    completion& target = self;
    io_uring_prep_poll_update(&sqe, reinterpret_cast<std::uintptr_t>(&target), 0, self.poll_bits,
                              IORING_POLL_UPDATE_EVENTS | IORING_POLL_ADD_MULTI);
}

void loop_port::request::change::complete(std::int32_t res, std::uint32_t) noexcept {
    self.is_change_in_kernel = false;
    // EALREADY: a wake-up was pending, whose completion comes first. ENOENT: the poll has ended, and
    // is armed again with these bits.
    if (res == -EALREADY) self.is_change_wanted = true;
    if (self.is_detached) {
        self.owner.ended(self, 0);
    } else if (self.is_change_wanted) {
        self.owner.arm_later();
    }
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
    // What cannot be polled reports an error, and is not armed again.
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
    for (list_link *at = requests_.next, *next; at != &requests_; at = next) {
        next = at->next;
        request& which = static_cast<request::owner_link*>(at)->self;
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

// Calls of the queue, under its lock.

loop_port::loop_port() : state_(std::make_shared<state>()) {}

loop_port::~loop_port() { detach(); }

// Takes the queue off its loop.
void loop_port::detach() noexcept {
    const std::lock_guard held(state_->mutex);
    attachment* const current = state_->current.load(std::memory_order_relaxed);
    if (current == nullptr) return;
    state_->loop.store(nullptr, std::memory_order_relaxed);
    state_->current.store(nullptr, std::memory_order_relaxed);
    for (slot& each : state_->slots) {
        each.armed = nullptr;
        each.is_recorded = false;
    }
    state_->changes.clear();
    if (current->loop().on_ring_thread()) {
        current->end();
    } else {
        current->post();
    }
}

// Brings a change of slot `index` to the loop.
int loop_port::apply(std::uint32_t index) noexcept {
    attachment* const current = state_->current.load(std::memory_order_relaxed);
    if (current == nullptr) return 0;
    slot& changed = state_->slots[index];
    if (current->loop().on_ring_thread()) {
        const bool arms = changed.armed == nullptr;
        const int failure = current->apply(changed);
        if (arms) current->loop().submit();
        return failure;
    }
    if (!std::exchange(changed.is_recorded, true)) state_->changes.push_back(index);
    current->post();
    return 0;
}

int loop_port::arm(int number, std::uint32_t poll_bits, std::uint64_t tag) noexcept {
    const std::uint32_t index = index_of(tag);
    const std::lock_guard held(state_->mutex);
    try {
        if (index >= state_->slots.size()) {
            const std::size_t count = std::max<std::size_t>(index + 1, state_->slots.size() * 2);
            state_->changes.reserve(count);  // first: a change is recorded without memory
            state_->slots.resize(count);
        }
    } catch (const std::bad_alloc&) {
        return -ENOMEM;
    }
    if (epoll_ != nullptr)
        if (const int failure = epoll_->arm(number, poll_bits, tag); failure != 0) return failure;
    slot& target = state_->slots[index];
    target.number = number;
    target.poll_bits = poll_bits;
    target.tag = tag;
    target.is_used = true;
    target.has_changed = false;
    const int failure = apply(index);
    if (failure != 0) target.is_used = false;
    return failure;
}

int loop_port::change(int number, std::uint32_t poll_bits, std::uint64_t tag) noexcept {
    const std::lock_guard held(state_->mutex);
    if (epoll_ != nullptr)
        if (const int failure = epoll_->change(number, poll_bits, tag); failure != 0)
            return failure;
    slot& target = state_->slots[index_of(tag)];
    target.poll_bits = poll_bits;
    target.has_changed = true;
    return apply(index_of(tag));
}

void loop_port::report_again(int number, std::uint32_t poll_bits, std::uint64_t tag) noexcept {
    const std::lock_guard held(state_->mutex);
    if (epoll_ != nullptr) return epoll_->report_again(number, poll_bits, tag);
    slot& target = state_->slots[index_of(tag)];
    if (!target.is_used || target.tag != tag) return;
    target.has_changed = true;
    static_cast<void>(apply(index_of(tag)));  // its request exists: nothing is allocated
}

void loop_port::disarm(int number, std::uint64_t tag) noexcept {
    const std::lock_guard held(state_->mutex);
    if (epoll_ != nullptr) epoll_->disarm(number, tag);
    state_->slots[index_of(tag)].is_used = false;
    static_cast<void>(apply(index_of(tag)));
}

// A ring of its own answers: it refuses at once to poll a file that has no poll operation, and
// otherwise waits, with an empty mask, until it is closed. A ring that cannot be made proves nothing.
int loop_port::check_pollable(int number) noexcept {
    struct query final : completion {
        explicit query(int number) noexcept : number(number) {}
        void prepare(io_uring_sqe& sqe) noexcept override {
            io_uring_prep_poll_add(&sqe, number, 0);
        }
        void complete(std::int32_t, std::uint32_t) noexcept override {}
        const int number;
    };
    kernel& system = kernel::real();
    io_uring probe{};
    io_uring_params params{};
    if (system.ring_setup(1, params, probe) < 0) return 0;
    io_uring_sqe& entry = probe.sq.sqes[0];
    entry = {};
    query(number).prepare(entry);
    entry.user_data = 1;
    if (probe.sq.array != nullptr) probe.sq.array[0] = 0;
    __atomic_store_n(probe.sq.ktail, 1U, __ATOMIC_RELEASE);
    system.ring_enter(probe, 1, 0, 0, nullptr);
    const bool is_refused =
        __atomic_load_n(probe.cq.ktail, __ATOMIC_ACQUIRE) == 1 && probe.cq.cqes[0].res < 0;
    system.ring_exit(probe);
    return is_refused ? -EPERM : 0;
}

void loop_port::set_readable(bool is_readable) noexcept {
    is_readable_ = is_readable;
    if (epoll_ != nullptr) epoll_->set_readable(is_readable);
}

int loop_port::create_timer() noexcept {
    if (epoll_ != nullptr)
        if (const int failure = epoll_->create_timer(); failure != 0) return failure;
    has_timer_ = true;
    return 0;
}

int loop_port::arm_timer(std::int64_t deadline_ns) noexcept {
    if (epoll_ != nullptr)
        if (const int failure = epoll_->arm_timer(deadline_ns); failure != 0) return failure;
    const std::lock_guard held(state_->mutex);
    state_->deadline_ns = deadline_ns;
    attachment* const current = state_->current.load(std::memory_order_relaxed);
    if (current == nullptr) return 0;
    if (current->loop().on_ring_thread()) {
        current->set_timer();
    } else {
        current->post();
    }
    return 0;
}

void loop_port::update() noexcept {
    if (attachment* const here = attachment_here()) here->record_all();
}

int loop_port::wait(const timespec* timeout) {
    return epoll_ != nullptr ? epoll_->wait(timeout) : -EINVAL;
}

fd_ref loop_port::control() const noexcept {
    return epoll_ != nullptr ? epoll_->control() : fd_ref();
}

int loop_port::release_control() noexcept {
    return epoll_ != nullptr ? epoll_->release_control() : -EINVAL;
}

// Carriers.

int loop_port::attach(ring& loop) noexcept {
    if (is_shared_) return -EXDEV;
    if (loop.closing()) return -ECANCELED;
    if (loop.created_by_parent_process()) return -EPERM;
    if (state_->loop.load(std::memory_order_relaxed) == &loop) return 0;
    {
        const std::lock_guard held(state_->mutex);
        if (attachment* const current = state_->current.load(std::memory_order_relaxed)) {
            ring& before = current->loop();
            if (before.driven_by_another_thread()) return -EBUSY;
            if (before.on_ring_thread() && current->waits().has_waits()) return -EBUSY;
        }
    }
    attachment* made = nullptr;
    try {
        made = &loop.service<attachments>().add(state_);
    } catch (const std::bad_alloc&) {
        return -ENOMEM;
    }
    detach();
    const std::lock_guard held(state_->mutex);
    epoll_.reset();
    state_->current.store(made, std::memory_order_relaxed);
    state_->loop.store(&loop, std::memory_order_relaxed);
    if (loop.on_ring_thread()) {
        for (slot& each : state_->slots)
            if (made->apply(each) != 0) made->arm_later();
        loop.submit();
        made->set_timer();
        return 0;
    }
    for (std::uint32_t index = 0; index < state_->slots.size(); ++index) {
        state_->slots[index].is_recorded = true;
        state_->changes.push_back(index);
    }
    made->post();
    return 0;
}

int loop_port::open_epoll(std::unique_ptr<epoll_port>& opened) noexcept {
    try {
        opened = std::make_unique<epoll_port>();
    } catch (const std::system_error& failure) {
        return -failure.code().value();
    } catch (const std::bad_alloc&) {
        return -ENOMEM;
    }
    const std::lock_guard held(state_->mutex);
    for (const slot& each : state_->slots)
        if (each.is_used)
            if (const int failure = opened->arm(each.number, each.poll_bits, each.tag);
                failure != 0)
                return failure;
    if (has_timer_)
        if (const int failure = opened->create_timer(); failure != 0) return failure;
    if (state_->deadline_ns != 0) opened->arm_timer(state_->deadline_ns);
    opened->set_readable(is_readable_);
    return 0;
}

int loop_port::share() noexcept {
    if (is_shared_) return 0;
    if (epoll_ == nullptr) {
        std::unique_ptr<epoll_port> opened;
        if (const int failure = open_epoll(opened); failure != 0) return failure;
        detach();
        const std::lock_guard held(state_->mutex);
        epoll_ = std::move(opened);
    }
    is_shared_ = true;
    return 0;
}

}  // namespace kevring::detail
