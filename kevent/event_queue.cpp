// event_queue.cpp: see event_queue.hpp.
#include <kevring/kevent/event_queue.hpp>

#include <kevring/kevent/detail/queue_core.hpp>
#include <kevring/kevent/detail/readiness_watch.hpp>
#include <kevring/kevent/ports/loop_port.hpp>
#include <kevring/kevent/sources/inode.hpp>
#include <kevring/runtime/assert.hpp>
#include <kevring/runtime/deadline.hpp>
#include <kevring/runtime/detail/hidden_fd.hpp>
#include <kevring/runtime/detail/process.hpp>
#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/sleep.hpp>
#include <kevring/runtime/task_scope.hpp>
#include <kevring/runtime/thread_mutex.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <new>
#include <utility>

#include <fcntl.h>
#include <poll.h>

namespace kevring {
namespace {

// In the child of a fork the objects of the parent are neither used nor destroyed: another thread
// may have been changing them at the fork, and their rings are the parent's. They are kept where a
// leak checker sees them.
void keep_inherited(std::shared_ptr<detail::queue_core> core,
                    std::shared_ptr<detail::readiness_watch> edges) noexcept {
    struct kept {
        std::shared_ptr<detail::queue_core> core;
        std::shared_ptr<detail::readiness_watch> edges;
        kept* next;
    };
    static thread_mutex mutex;
    static kept* all KEVRING_GUARDED_BY(mutex) = nullptr;
    const thread_lock held(mutex);
    if (kept* const entry = new (std::nothrow) kept{std::move(core), std::move(edges), all})
        all = entry;
}

// The kinds and the mask of an inode record have the same bits.
static_assert(static_cast<std::uint32_t>(change_kind::created) == KEVENT_INODE_CREATE &&
              static_cast<std::uint32_t>(change_kind::removed) == KEVENT_INODE_REMOVE &&
              static_cast<std::uint32_t>(change_kind::modified) == KEVENT_INODE_MODIFIED &&
              static_cast<std::uint32_t>(change_kind::attributes) == KEVENT_INODE_ATTRIBUTES &&
              static_cast<std::uint32_t>(change_kind::moved_from) == KEVENT_INODE_MOVED_FROM &&
              static_cast<std::uint32_t>(change_kind::moved_to) == KEVENT_INODE_MOVED_TO &&
              static_cast<std::uint32_t>(change_kind::lost) == KEVENT_INODE_LOST &&
              static_cast<std::uint32_t>(change_kind::directory) == KEVENT_INODE_DIRECTORY);
constexpr std::uint32_t inode_events = KEVENT_INODE_CREATE | KEVENT_INODE_REMOVE |
                                       KEVENT_INODE_MODIFIED | KEVENT_INODE_ATTRIBUTES |
                                       KEVENT_INODE_MOVED_FROM | KEVENT_INODE_MOVED_TO;

ukevent record_of(event_type type, std::uint64_t id, std::uint32_t bits) noexcept {
    ukevent made{};
    made.id.raw_u64 = id;
    made.type = static_cast<std::uint32_t>(type);
    made.event = bits;
    return made;
}

// The most events that one call gives: it allocates the memory for them first.
constexpr unsigned batch_count_max = 65536;

// A coroutine that waits: the queue rings for it until it goes.
class waiting {
public:
    waiting(detail::queue_core& core, unsigned min_count) noexcept : core_(core) {
        hook.min_count = min_count;
    }
    waiting(const waiting&) = delete;
    waiting& operator=(const waiting&) = delete;
    ~waiting() { core_.cancel_wait(hook); }

    detail::async_waiter hook;

private:
    detail::queue_core& core_;
};

}  // namespace

event_queue::event_queue() : event_queue(std::make_unique<detail::loop_port>()) {
    if (ring* const loop = ring::current()) attach(*loop);
}
event_queue::event_queue(ring& loop) : event_queue(std::make_unique<detail::loop_port>()) {
    KEVRING_ASSERT(!loop.driven_by_another_thread(),
                   "queue created for a ring that another thread drives; create it on that thread");
    attach(loop);
}
event_queue::event_queue(std::unique_ptr<detail::loop_port> port)
    : port_(port.get()), fork_generation_(detail::fork_generation()) {
    core_ = std::make_shared<detail::queue_core>(std::move(port), nullptr, 0);
}
event_queue::event_queue(std::shared_ptr<detail::queue_core> core, detail::loop_port& port) noexcept
    : core_(std::move(core)), port_(&port), fork_generation_(detail::fork_generation()) {}
event_queue::event_queue(event_queue&& other) noexcept
    : core_(std::move(other.core_)),
      port_(other.port_),
      fork_generation_(other.fork_generation_),
      edges_(std::move(other.edges_)),
      collected_(std::move(other.collected_)),
      polled_(std::move(other.polled_)),
      batch_(std::move(other.batch_)),
      unpublished_(std::move(other.unpublished_)),
      fetched_(std::exchange(other.fetched_, std::nullopt)),  // not delivered by both
      fetched_by_(std::move(other.fetched_by_)) {}

event_queue& event_queue::operator=(event_queue&& other) noexcept {
    if (this == &other) return *this;
    std::destroy_at(this);
    return *std::construct_at(this, std::move(other));
}

event_queue::~event_queue() {
    if (core_ != nullptr && inherited()) keep_inherited(std::move(core_), std::move(edges_));
}

bool event_queue::inherited() const noexcept {
    return fork_generation_ != detail::fork_generation();
}

// 0, or a negative error number: the queue was moved from, or belongs to a parent process.
int event_queue::unusable() const noexcept {
    if (core_ == nullptr) return -EBADF;
    return inherited() ? -EPERM : 0;
}

event_queue event_queue::share() const {
    if (core_ == nullptr)
        throw std::system_error(EBADF, std::system_category(), "event_queue::share");
    if (!inherited()) {
        const int failure = core_->under_lock([&] { return port_->share(); });
        if (failure != 0)
            throw std::system_error(-failure, std::system_category(), "event_queue::share");
    }
    return event_queue(core_, *port_);
}

// 0, or a negative error number; see loop_port.
int event_queue::attach(ring& loop) const {
    if (port_->waits(loop) != nullptr) return 0;
    return core_->under_lock([&] { return port_->attach(loop); });
}

result<event_key> event_queue::add_record(ukevent record, user_data user, repeat times) {
    if (const int error = unusable(); error != 0) return error_from(error);
    record.req_flags |= KEVENT_REQ_ALWAYS_QUEUE;  // an event comes by next(), also the first
    if (times == repeat::once) record.req_flags |= KEVENT_REQ_ONESHOT;
    record.user_u64 = user.bits();
    if (core_->add(&record, 1) != 0)
        return error_from(static_cast<std::int32_t>(record.ret_data[1]));
    return event_key{record.id.raw_u64, static_cast<event_type>(record.type)};
}

result<event_key> event_queue::add(timer request, user_data user, repeat times) {
    constexpr std::int64_t ns_per_s = 1'000'000'000;
    if (const int error = unusable(); error != 0) return error_from(error);
    const std::int64_t period_ns = request.period().count();
    if (period_ns <= 0 || period_ns / ns_per_s > UINT32_MAX) return error_from(-EINVAL);
    ukevent record = record_of(event_type::timer, core_->allocate_id(), KEVENT_TIMER_FIRED);
    if (times == repeat::once) record.req_flags |= KEVENT_REQ_ONESHOT;
    record.user_u64 = user.bits();
    // In C the period is the name. Here several timers may have the same: the source reads its
    // period where the name is to be, and only while it is made.
    const auto make = [&](detail::source_host& host, detail::registration& target) {
        const std::uint64_t name = target.record.id.raw_u64;
        target.record.id.raw[0] = static_cast<std::uint32_t>(period_ns / ns_per_s);
        target.record.id.raw[1] = static_cast<std::uint32_t>(period_ns % ns_per_s);
        auto made = detail::make_timer_source(host, target);
        target.record.id.raw_u64 = name;
        return made;
    };
    const int failure = core_->add_with_source(record, make);
    if (failure != 0) return error_from(failure);
    return event_key{record.id.raw_u64, event_type::timer};
}

// The upper half of the name tells registrations of one descriptor apart.

result<event_key> event_queue::add(descriptor_events request, user_data user, repeat times) {
    if (const int error = unusable(); error != 0) return error_from(error);
    ukevent record = record_of(event_type::poll, 0,
                               request.poll_bits() | KEVENT_POLL_POLLERR | KEVENT_POLL_POLLHUP);
    record.id.raw[0] = static_cast<std::uint32_t>(request.file().number());
    record.id.raw[1] = static_cast<std::uint32_t>(core_->allocate_id());
    return add_record(record, user, times);
}

result<event_key> event_queue::add_file(event_type type, fd_ref file, socket_interest kinds,
                                        socket_interest allowed, user_data user, repeat times) {
    if (const int error = unusable(); error != 0) return error_from(error);
    const auto bits = static_cast<std::uint32_t>(kinds);
    if (bits == 0 || (bits & ~static_cast<std::uint32_t>(allowed)) != 0) return error_from(-EINVAL);
    ukevent record = record_of(type, 0, bits);
    record.id.raw[0] = static_cast<std::uint32_t>(file.number());
    record.id.raw[1] = static_cast<std::uint32_t>(core_->allocate_id());
    return add_record(record, user, times);
}

result<event_key> event_queue::add(socket_events request, user_data user, repeat times) {
    constexpr socket_interest all =
        socket_interest::receive | socket_interest::accept | socket_interest::send;
    return add_file(event_type::socket, request.file, request.kinds, all, user, times);
}

result<event_key> event_queue::add(pipe_events request, user_data user, repeat times) {
    constexpr socket_interest both = socket_interest::receive | socket_interest::send;
    return add_file(event_type::pipe, request.file, request.kinds, both, user, times);
}

result<event_key> event_queue::add(const inode& request, user_data user, repeat times) {
    if (const int error = unusable(); error != 0) return error_from(error);
    const auto bits = static_cast<std::uint32_t>(request.kinds);
    if (bits == 0 || (bits & ~inode_events) != 0) return error_from(-EINVAL);
    const fd place(detail::above_standard(::open(request.path.c_str(), O_PATH | O_CLOEXEC)));
    if (!place) return error_from_errno();
    ukevent record = record_of(event_type::inode, 0, bits);
    if (request.names == inode_names::kept) record.event |= KEVENT_INODE_NAMES;
    record.id.raw[0] = static_cast<std::uint32_t>(place.number());
    record.id.raw[1] = static_cast<std::uint32_t>(core_->allocate_id());
    return add_record(record, user, times);
}

result<event_key> event_queue::add(signal request, user_data user, repeat times) {
    const auto number = static_cast<std::uint32_t>(request.number);
    return add_record(
        record_of(event_type::signal, number | KEVENT_SIGNAL_NOMASK, KEVENT_SIGNAL_DELIVERY), user,
        times);
}

result<event_key> event_queue::add(process request, user_data user, repeat times) {
    const auto number = static_cast<std::uint32_t>(request.number);
    return add_record(record_of(event_type::process, number, KEVENT_PROCESS_EXIT), user, times);
}

// Not by add_record(): a note that is queued always would be ready at once.
result<event_key> event_queue::add(user_event request, user_data user, repeat times) {
    if (const int error = unusable(); error != 0) return error_from(error);
    ukevent record = record_of(event_type::unotify, request.number, KEVENT_MASK_ALL);
    if (times == repeat::once) record.req_flags |= KEVENT_REQ_ONESHOT;
    record.user_u64 = user.bits();
    if (core_->add(&record, 1) != 0)
        return error_from(static_cast<std::int32_t>(record.ret_data[1]));
    return event_key{request.number, event_type::unotify};
}

result<void> event_queue::modify(event_key which, std::uint32_t bits) {
    if (const int error = unusable(); error != 0) return error_from(error);
    if (which.type == event_type::poll) bits |= KEVENT_POLL_POLLERR | KEVENT_POLL_POLLHUP;
    if (!core_->change_event(which.id, which.type, bits)) return error_from(-ENOENT);
    return {};
}

result<std::vector<change>> event_queue::take_changes(event_key which) {
    if (const int error = unusable(); error != 0) return error_from(error);
    std::vector<change> taken;
    std::array<kevent_change, 32> part;
    const auto take = [&](detail::source& inode_source) {
        return detail::take_inode_changes(inode_source, static_cast<unsigned>(part.size()),
                                          part.data());
    };
    if (which.type != event_type::inode) return error_from(-EINVAL);
    while (true) {
        const int count = core_->query_source(which.id, which.type, take);
        if (count < 0) return error_from(count);
        for (const kevent_change& one : std::span(part).first(static_cast<std::size_t>(count))) {
            change& made = taken.emplace_back();
            made.kinds = static_cast<change_kind>(one.event);
            made.cookie = one.cookie;
            made.name = one.name;
        }
        if (count < static_cast<int>(part.size())) return taken;
    }
}

bool event_queue::remove(event_key which) {
    if (unusable() != 0) return false;
    if (fetched_by_.is_this() && fetched_ && fetched_->key() == which) fetched_.reset();
    ukevent record = record_of(which.type, which.id, 0);
    return core_->remove(&record, 1) == 0 && (record.ret_flags & KEVENT_RET_BROKEN) == 0;
}

bool event_queue::notify(user_event which) {
    if (unusable() != 0) return false;
    ukevent record = record_of(event_type::unotify, which.number, 0);
    return core_->mark_ready(&record, 1) == 1;
}

std::size_t event_queue::registration_count() const {
    return unusable() != 0 ? 0 : core_->registration_count();
}

// Awaiting. The queue's port wakes the tasks when there may be events; the check itself is a call
// that does not wait.

// The port where tasks of `loop` wait; null: check again, another thread has called share().
detail::readiness_watch* event_queue::waits(const ring& loop) {
    if (edges_ != nullptr) return edges_.get();
    if (detail::readiness_watch* const waits = port_->waits(loop)) return waits;
    if (core_->under_lock([&] { return port_->is_shared(); }))
        edges_ = std::make_shared<detail::readiness_watch>(core_->control());
    return edges_.get();
}

task<result<unsigned>> event_queue::collect(unsigned min_count, std::span<ukevent> target) {
    if (const int error = unusable(); error != 0) co_return error_from(error);
    cancel_scope& scope = co_await current_scope();
    ring& loop = scope.loop();
    if (!loop.spend_inline_budget()) co_await yield();
    const auto max_count = static_cast<unsigned>(target.size());
    waiting wait(*core_, 0);
    while (true) {
        if (scope.stop_requested())
            co_return error_from(scope.cause() == stop_cause::deadline
                                     ? std::errc::timed_out
                                     : std::errc::operation_canceled);
        // An event that another await has left comes first, and counts.
        const unsigned held = fetched_ ? 1 : 0;
        if (max_count == held) co_return 0u;
        const unsigned wanted = std::max(std::min(min_count, max_count), held) - held;
        if (wait.hook.min_count != wanted) {
            core_->cancel_wait(wait.hook);  // first: other threads read a hook that is listed
            wait.hook.min_count = wanted;
        }
        const int attached = attach(loop);
        const int count = core_->collect_or_wait(wait.hook, max_count - held, target.data());
        if (count > 0 || wait.hook.min_count == 0) co_return static_cast<unsigned>(count);
        if (attached != 0 && attached != -EXDEV) co_return error_from(attached);
        detail::readiness_watch* const waits = this->waits(loop);
        if (waits == nullptr) continue;
        const auto edge = co_await waits->wait(loop);
        if (!edge) co_return tl::unexpected<std::error_code>(edge.error());
    }
}

task<result<void>> event_queue::fetch() {
    ukevent record{};
    const auto count = co_await collect(1, std::span(&record, 1));
    if (!count) co_return tl::unexpected<std::error_code>(count.error());
    fetched_by_.set();  // first: until then remove() on this thread may not read fetched_
    if (*count != 0) fetched_.emplace(record);  // 0: another await has left one
    // Should this await leave it, another one takes it.
    if (detail::readiness_watch* const waits = this->waits(*ring::current())) waits->wake();
    co_return result<void>();
}

detail::queue_wait event_queue::wait(unsigned min_count, unsigned max_count,
                                     clamped_time deadline) {
    KEVRING_ASSERT(max_count != 0, "wait for at most 0 events; pass a max_count of at least 1");
    return {*this, min_count, std::min(max_count, batch_count_max), deadline};
}

task<result<std::span<const event>>> event_queue::wait_as_task(unsigned min_count,
                                                               unsigned max_count,
                                                               steady_time deadline) {
    // Of its own: another task may wait with more room, and move `collected_`.
    std::vector<ukevent> records(max_count);
    batch_.reserve(max_count);  // first: no event is lost for want of memory; it never shrinks
    const std::span<ukevent> target(records);
    result<unsigned> count = 0u;
    if (deadline == steady_time::max()) {
        count = co_await collect(min_count, target);
    } else {
        bool expired = false;
        {
            auto limit = co_await until(deadline);
            count = co_await collect(min_count, target);
            expired = limit.expired();
        }
        if (!count && expired)
            count = co_await collect(0, target);  // the events that are ready by now
    }
    if (!count) co_return tl::unexpected<std::error_code>(count.error());
    co_return batch(target.first(*count));
}

std::span<const event> event_queue::poll(unsigned max_count) {
    if (unusable() != 0 || max_count == 0) return {};
    max_count = std::min(max_count, batch_count_max);
    if (polled_.size() < max_count) polled_.resize(max_count);
    batch_.reserve(max_count);  // as in wait_as_task()
    if (fetched_) --max_count;  // it comes first, and counts
    int count = 0;
    if (max_count != 0)
        count = core_->get_events(0, max_count, detail::wait_limit::no_wait(), polled_.data());
    return batch(std::span(polled_).first(static_cast<std::size_t>(std::max(count, 0))));
}

std::span<const event> event_queue::batch(std::span<const ukevent> records) {
    batch_.clear();
    if (fetched_) batch_.push_back(*std::exchange(fetched_, std::nullopt));
    for (const ukevent& record : records) batch_.emplace_back(record);
    return batch_;
}

}  // namespace kevring
