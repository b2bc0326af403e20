// loop_port.cpp: see loop_port.hpp.
#include <kevring/kevent/ports/loop_port.hpp>

#include <kevring/kevent/ports/loop_attachment.hpp>
#include <kevring/kevent/ports/loop_request.hpp>
#include <kevring/runtime/detail/uring.hpp>
#include <kevring/runtime/kernel.hpp>
#include <kevring/runtime/ring.hpp>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <mutex>
#include <new>
#include <system_error>
#include <utility>

namespace kevring::detail {
namespace {

constexpr std::uint32_t index_of(std::uint64_t tag) noexcept {
    return static_cast<std::uint32_t>(tag);
}

}  // namespace

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
    const std::lock_guard held(state_->mutex);  // the loop does not end while it is held
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
