// queue_core.cpp: registrations of a queue: ADD, REMOVE, MODIFY, READY.
#include <kevring/kevent/detail/queue_core.hpp>

#include <kevring/kevent/detail/control_identity.hpp>
#include <kevring/runtime/kernel.hpp>

#include <cerrno>
#include <new>
#include <span>
#include <utility>

#include <fcntl.h>

namespace kevring::detail {
namespace {

void set_reply(ukevent& record, std::uint32_t ret_flags, int error_number) noexcept {
    record.ret_flags = ret_flags;
    record.ret_data[0] = 0;
    record.ret_data[1] = static_cast<std::uint32_t>(error_number);
}

}  // namespace

queue_core::queue_core(std::unique_ptr<port> carrier, kevent_ring* ring, std::uint32_t ring_size,
                       std::string_view port_reason, publication how)
    : port_(std::move(carrier)),
      port_reason_(port_reason),
      publishes_(how == publication::by_driver),
      watches_(*port_),
      timers_(*port_) {
    if (publishes_) slot_owners_.resize(ring_size);
    if (ring != nullptr) ring_.emplace(ring, ring_size, 0, publishes_ ? ring_size - 1 : ring_size);
}

std::size_t queue_core::registration_count() {
    const lock held(mutex_);
    return registrations_.size();
}

std::string queue_core::describe() {
    const lock held(mutex_);
    std::size_t hidden_count = 0;
    registrations_.for_each([&](const registration& each) {
        if (each.event_source->holds_descriptor()) ++hidden_count;
    });
    std::string text = "port: ";
    text += port_->name();
    text += "\nreason: ";
    text += port_reason_;
    text += "\nregistrations: " + std::to_string(registrations_.size());
    text += "\nhidden descriptors: " + std::to_string(hidden_count) + "\n";
    return text;
}

// The ready list.

void queue_core::make_ready(registration& entry, std::uint32_t ret_flags) noexcept {
    entry.record.ret_flags |= ret_flags;
    if (entry.ready()) return;
    ready_.push_back(entry);
    // From now on activity of a one-shot is ignored; its key stays in use until it is collected.
    if (entry.has(KEVENT_REQ_ONESHOT) && entry.armed) {
        entry.event_source->disarm();
        entry.armed = false;
    }
}

void queue_core::drop(registration& entry) noexcept {
    if (publishes_) forget_published(entry);
    ready_.remove(entry);
    registrations_.erase(entry);
}

void queue_core::mark_broken(registration& entry) noexcept {
    if (entry.armed) {
        entry.event_source->disarm();
        entry.armed = false;
    }
    entry.broken = true;
    make_ready(entry, KEVENT_RET_DONE | KEVENT_RET_BROKEN);
}

void queue_core::report(registration& target, readiness state) noexcept {
    mutex_.assert_held();
    if (state == readiness::not_ready || !target.armed) return;
    if (!target.ready() && port_->reports_present_state()) target.tested_in_fetch = fetch_number_;
    if (state == readiness::ready) {
        make_ready(target, KEVENT_RET_DONE);
    } else {
        mark_broken(target);
    }
}

// Arming.

int queue_core::arm(registration& entry) noexcept {
    try {
        if (const int failure = entry.event_source->arm(); failure != 0) return failure;
    } catch (const std::bad_alloc&) {
        return -ENOMEM;
    }
    entry.armed = true;
    entry.broken = false;
    return 0;
}

// A registration that cannot be armed any more reports the reason in its record.
bool queue_core::arm_or_break(registration& entry) noexcept {
    const int failure = arm(entry);
    if (failure == 0) return true;
    entry.record.ret_data[1] = static_cast<std::uint32_t>(failure);
    mark_broken(entry);
    return false;
}

// ADD.

// Registers one record, or answers it: then `answered` is true and `record` is the reply. Throws
// nothing but std::bad_alloc, and then nothing is registered.
int queue_core::add_one(ukevent& record, const source_factory& make, bool& answered) {
    if (registrations_.find(record) != nullptr) return -EEXIST;
    registrations_.reserve_one();  // first: nothing may fail once the source is armed

    auto entry = std::make_unique<registration>();
    entry->record = record;
    entry->record.ret_flags = 0;
    entry->record.ret_data[0] = entry->record.ret_data[1] = 0;
    auto made = make(*this, *entry);
    if (!made) return -made.error().value();
    entry->event_source = std::move(*made);
    entry->record.req_flags |= entry->event_source->forced_flags();

    const bool forced = entry->has(KEVENT_REQ_READY);
    const readiness state = forced ? readiness::not_ready : entry->event_source->test_on_add();
    if (state == readiness::broken) return -EPIPE;
    if (state == readiness::ready && !entry->has(KEVENT_REQ_ALWAYS_QUEUE)) {
        entry->event_source->before_collect();
        entry->record.ret_flags = KEVENT_RET_DONE;
        record = entry->record;
        answered = true;
        return 0;
    }
    if (const int failure = arm(*entry); failure != 0) return failure;
    registration& added = registrations_.insert(std::move(entry));
    if (forced || (state == readiness::ready && !added.event_source->arm_reports_readiness()))
        make_ready(added, KEVENT_RET_DONE);
    else
        report(added, added.event_source->on_added());
    return 0;
}

int queue_core::add(ukevent* records, unsigned count) {
    const lock held(mutex_);
    if (const int failure = port_->claim(); failure != 0) return failure;
    unsigned answers = 0;
    for (unsigned i = 0; i < count; ++i) {
        ukevent record = records[i];
        bool answered = false;
        int failure = 0;
        const source_row* const row = find_source_row(record.type);
        try {
            failure = row == nullptr || row->make == nullptr ? -ENOSYS
                                                             : add_one(record, row->make, answered);
        } catch (const std::bad_alloc&) {
            failure = -ENOMEM;
        }
        if (failure != 0) set_reply(record, KEVENT_RET_BROKEN | KEVENT_RET_DONE, failure);
        if (failure != 0 || answered) records[answers++] = record;
    }
    notify_waiters();
    return static_cast<int>(answers);
}

int queue_core::add_with_source(const ukevent& record, const source_factory& make) {
    const lock held(mutex_);
    if (const int failure = port_->claim(); failure != 0) return failure;
    ukevent request = record;
    request.req_flags |= KEVENT_REQ_ALWAYS_QUEUE;
    bool answered = false;
    const int failure = add_one(request, make, answered);
    notify_waiters();
    return failure;
}

// REMOVE, MODIFY.

// True if a registration has to know what its driver has dispatched.
bool queue_core::begin_removals(const ukevent* records, unsigned count) noexcept {
    bool waits = false;
    for (const ukevent& record : std::span(records, count)) {
        registration* const entry = registrations_.find(record);
        if (entry != nullptr && entry->event_source->begin_removal()) waits = true;
    }
    return waits;
}

int queue_core::remove(ukevent* records, unsigned count) {
    port::removals removals;
    lock held(mutex_);
    if (const int failure = port_->claim(); failure != 0) return failure;
    if (count > registrations_.size()) return -EINVAL;
    if (publishes_ && begin_removals(records, count)) {
        held.unlock();
        port_->synchronize();
        held.lock();
    }
    port_->track_removals(&removals);
    for (unsigned i = 0; i < count; ++i) {
        registration* const entry = registrations_.find(records[i]);
        records[i].ret_flags = KEVENT_RET_DONE;
        if (entry == nullptr) {
            records[i].ret_flags |= KEVENT_RET_BROKEN;
        } else {
            entry->event_source->on_removed();
            drop(*entry);
        }
    }
    port_->track_removals(nullptr);
    notify_waiters();
    held.unlock();  // first: a driver may wait for it
    port_->await_removals(removals);
    return 0;
}

// True if a registration that is not ready is to lose a part of its mask.
bool queue_core::narrows(const ukevent* records, unsigned count) {
    const lock held(mutex_);
    if (count > registrations_.size()) return false;  // modify() refuses it
    for (const ukevent& record : std::span(records, count)) {
        const registration* const entry = registrations_.find(record);
        if (entry != nullptr && !entry->ready() && (entry->record.event & ~record.event) != 0)
            return true;
    }
    return false;
}

void queue_core::modify_one(registration& entry, std::uint32_t event, std::uint32_t req_flags) {
    // An edge that is pending in the kernel was ready by the old mask, and stays so (K-045).
    if ((entry.record.event & ~event) != 0 && !entry.ready()) fetch_reports();
    const bool was_ready = entry.ready();
    entry.record.event = event;
    entry.record.req_flags = req_flags | entry.event_source->forced_flags();
    if (was_ready && entry.has(KEVENT_REQ_ONESHOT)) {
        // It has fired already. If it fails its last check, it is armed again by the new mask.
        if (entry.armed) entry.event_source->disarm();
        entry.armed = false;
        return;
    }
    entry.record.ret_flags = was_ready ? entry.record.ret_flags & KEVENT_RET_DONE : 0;
    if (arm_or_break(entry) && !entry.event_source->arm_reports_readiness())
        report(entry, entry.event_source->test());
}

// For MODIFY: the port finds out whether `number` refers to the control file, and for few records in
// the same system call which of their descriptors are ready. That would report events again, so a
// call that changes nothing must not ask it.
bool queue_core::identify_by_port(int number, const ukevent* records, unsigned count) noexcept {
    if (!port_->begin_identification(number)) return false;
    if (count < watch_set::batch_min && count <= registrations_.size()) {
        for (unsigned i = 0; i < count; ++i) {
            registration* const entry = registrations_.find(records[i]);
            if (entry != nullptr && entry->armed && entry->record.event == records[i].event)
                entry->event_source->prepare_arm();
        }
    }
    port_->flush();
    return port_->end_identification() == control_identity::same;
}

int queue_core::modify(ukevent* records, unsigned count, int unidentified) {
    // A driver dispatches on its own thread what came before the call (K-045).
    if (publishes_ && narrows(records, count)) port_->synchronize();
    const lock held(mutex_);
    if (unidentified != identified && !identify_by_port(unidentified, records, count))
        return not_identified;
    if (const int failure = port_->claim(); failure != 0) return failure;
    if (count > registrations_.size()) return -EINVAL;
    watches_.begin_batch(count);
    for (unsigned i = 0; i < count; ++i) {
        registration* const entry = registrations_.find(records[i]);
        records[i].ret_flags = KEVENT_RET_DONE;
        if (entry == nullptr) {
            records[i].ret_flags |= KEVENT_RET_BROKEN;
        } else {
            modify_one(*entry, records[i].event, records[i].req_flags);
        }
    }
    watches_.end_batch();
    notify_waiters();
    return 0;
}

bool queue_core::change_event(std::uint64_t id, event_type type, std::uint32_t event) {
    const lock held(mutex_);
    registration* const entry = registrations_.find(id, static_cast<std::uint32_t>(type));
    if (entry == nullptr) return false;
    modify_one(*entry, event, entry->record.req_flags);
    notify_waiters();
    return true;
}

int queue_core::query_source(std::uint64_t id, event_type type,
                             const std::function<int(source&)>& question) {
    const lock held(mutex_);
    if (const int failure = port_->claim(); failure != 0) return failure;
    registration* const entry = registrations_.find(id, static_cast<std::uint32_t>(type));
    return entry == nullptr ? -ENOENT : question(*entry->event_source);
}

// READY.

int queue_core::mark_ready(ukevent* records, unsigned count) {
    const lock held(mutex_);
    if (count > registrations_.size()) return -EINVAL;
    unsigned not_found_count = 0;
    for (unsigned i = 0; i < count; ++i) {
        registration* const entry = registrations_.find(records[i]);
        if (entry != nullptr) {
            entry->event_source->on_marked_ready();
            make_ready(*entry, KEVENT_RET_DONE);
            continue;
        }
        records[not_found_count] = records[i];
        records[not_found_count++].ret_flags = KEVENT_RET_BROKEN | KEVENT_RET_DONE;
    }
    notify_waiters();
    return static_cast<int>(count - not_found_count);
}

void queue_core::interrupt_wait() {
    const lock held(mutex_);
    interrupt_requested_ = true;
    notify_waiters();
}

// For sources.

int queue_core::release_control() noexcept {
    const int number = port_->release_control();
    if (number >= 0) control_number_.store(number, std::memory_order_relaxed);
    return number;
}

// The flag belongs to the file, which the queue's own descriptor refers to as well.
bool queue_core::is_non_blocking() const noexcept {
    const int caller_errno = errno;
    const int flags = ::fcntl(port_->control().number(), F_GETFL);
    errno = caller_errno;
    return flags >= 0 && (flags & O_NONBLOCK) != 0;
}

// After a close another file may have the number of the control descriptor; see identify_control().
bool queue_core::is_abandoned() const noexcept {
    const int number = control_number_.load(std::memory_order_relaxed);
    return number >= 0 && identify_control(number, port_->control()) != control_identity::same;
}

int queue_core::watch(fd_watch& target, fd_handler& handler, std::uint32_t poll_bits) {
    mutex_.assert_held();
    // The control descriptor was closed during this call, and the duplicate of the registration has
    // got its number. A descriptor in the set must not have it: see identify_control().
    if (target.number == control_number_.load(std::memory_order_relaxed)) return -EBADF;
    return watches_.watch(target, handler, poll_bits);
}

void queue_core::prepare_watch(const fd_watch& target) noexcept {
    mutex_.assert_held();
    port_->prepare_change(target.tag);
}

void queue_core::unwatch(fd_watch& target) noexcept {
    mutex_.assert_held();
    watches_.unwatch(target);
}

void queue_core::report_again(const fd_watch& target) noexcept {
    port_->report_again(target.number, target.poll_bits, target.tag);
}

void queue_core::fetch_reports() noexcept {
    mutex_.assert_held();
    watches_.flush_batch();  // first: what they report may have been modified in this call already
    fetch_all_events();
}

std::weak_ptr<void>& queue_core::shared_state(event_type type) noexcept {
    mutex_.assert_held();
    return shared_[static_cast<std::size_t>(type)];
}

std::int64_t queue_core::now_ns() noexcept { return kernel::real().steady_ns(); }

}  // namespace kevring::detail
