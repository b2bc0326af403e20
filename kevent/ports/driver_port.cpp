// driver_port.cpp: see driver_port.hpp.
#include <kevring/kevent/ports/driver_port.hpp>

#include <kevring/runtime/assert.hpp>
#include <kevring/runtime/detail/uring.hpp>
#include <kevring/runtime/kernel.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <new>
#include <system_error>
#include <utility>

#include <poll.h>
#include <signal.h>

namespace kevring::detail {
namespace {

constexpr std::uint32_t input_group = POLLIN | POLLRDNORM;
constexpr std::uint32_t output_group = POLLOUT | POLLWRNORM;
// They come unasked, or with input.
constexpr std::uint32_t end_group = POLLERR | POLLHUP | POLLNVAL | POLLRDHUP;

// Iterations in which the driver takes what is pending. Each runs at least 20 completions.
constexpr unsigned reap_round_max = 8192;

std::size_t request_index(std::uint64_t tag) noexcept { return static_cast<std::uint32_t>(tag); }

}  // namespace

// One multishot poll. It is destroyed by the driver once the kernel has ended it, or by the thread
// that destroys the queue.
class driver_port::request final : public completion, public list_link {
public:
    request(driver_port& owner, int number, std::uint32_t poll_bits, std::uint64_t tag) noexcept
        : owner_(owner), number(number), poll_bits(poll_bits), tag(tag) {}

    void prepare(io_uring_sqe& sqe) noexcept override {
        io_uring_prep_poll_multishot(&sqe, number, poll_bits);
    }
    void complete(std::int32_t res, std::uint32_t flags) noexcept override;

private:
    driver_port& owner_;

public:
    const int number;  // valid until disarmed
    const std::uint32_t poll_bits;
    const std::uint64_t tag;

    // Guarded by the port's mutex.
    request* next_mail = nullptr;
    bool is_mailed = false;
    removals* removed_by = nullptr;  // the REMOVE that waits for its end

    // Written under the queue's lock.
    std::atomic<bool> is_disarmed{false};

    // Written on the driver's thread.
    bool in_flight = false;
    bool is_ending = false;  // disarmed, and its cancel is queued
    std::uint32_t reported_bits = 0;
};

void driver_port::request::complete(std::int32_t res, std::uint32_t flags) noexcept {
    if ((flags & IORING_CQE_F_MORE) == 0) in_flight = false;
    if (is_ending) {
        if (!in_flight) {
            unlink();
            owner_.destroy(*this);
        }
        return;
    }
    // relaxed: an edge that is dispatched under the queue's lock has its generation checked there.
    if (is_disarmed.load(std::memory_order_relaxed) || owner_.is_closing_) return;
    if (res > 0) reported_bits |= static_cast<std::uint32_t>(res);
    // A failure is reported as an error of the descriptor. The kernel ends a poll with others, too:
    // then it is armed again, and reports the bits that are set.
    if (res < 0 && res != -ECANCELED) reported_bits |= POLLERR;
    if (!in_flight && (res >= 0 || res == -ECANCELED)) {
        in_flight = true;
        owner_.loop_->queue(*this);
    }
    if (reported_bits == 0) return;
    if (!linked()) insert_before(owner_.reported_);
    owner_.has_edges_ = true;
}

driver_port::mailbox::mailbox(driver_port& owner) noexcept
    : work([](work& self) noexcept { static_cast<mailbox&>(self).owner.read_mail(); }),
      owner(owner) {}

driver_port::alarm_clock::alarm_clock(driver_port& owner) noexcept
    : timer_node([](timer_node& self) noexcept {
          driver_port& port = static_cast<alarm_clock&>(self).owner;
          port.alarm_ns_.store(never_ns, std::memory_order_relaxed);
          port.timer_expired_ = port.has_edges_ = true;
      }),
      owner(owner) {}

driver_port::stop_message::stop_message(driver_port& owner) noexcept
    : work([](work& self) noexcept {
          driver_port& port = static_cast<stop_message&>(self).owner;
          port.stop_requested_ = port.has_edges_ = true;
      }),
      owner(owner) {}

driver_port::driver_port() : loop_(std::make_unique<ring>()) {}

driver_port::~driver_port() {
    KEVRING_ASSERT(!has_thread_,
                   "internal error: a driver was destroyed while its thread runs; report it with "
                   "the call that led to it");
}

// The thread.

void driver_port::start(client called) {
    client_ = called;
    sigset_t all;
    sigset_t before;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);  // signals are for the program's threads
    const int failure = ::pthread_create(&thread_, nullptr, &driver_port::run_thread, this);
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (failure != 0) throw std::system_error(failure, std::system_category(), "pthread_create");
    has_thread_ = true;
    start_result_.wait(1);
    if (const int result = start_result_.load(); result != 0) {
        stop();
        throw std::system_error(-result, std::system_category(), "io_uring_enter");
    }
}

void driver_port::stop() noexcept {
    if (!has_thread_) return;
    {
        const std::lock_guard held(mutex_);
        if (accepts_mail_) loop_->post(stop_message_);
    }
    ::pthread_join(thread_, nullptr);
    has_thread_ = false;
}

void* driver_port::run_thread(void* self) {
    ::pthread_setname_np(::pthread_self(), "kevring-driver");
    static_cast<driver_port*>(self)->run();
    return nullptr;
}

void driver_port::run() noexcept {
    try {
        loop_->claim();
        start_result_.store(0);
    } catch (const std::system_error& failure) {
        stop_requested_ = true;
        start_result_.store(-failure.code().value());
    }
    start_result_.notify_one();
    while (!stop_requested_) {
        loop_->run_until(has_edges_);
        const std::uint64_t synchronizing = std::exchange(synchronizing_, 0);
        if (synchronizing != 0) reap_all();
        has_edges_ = stop_requested_;
        if (stop_requested_) break;
        client_.on_edges(client_.context);
        if (reported_.linked() || timer_expired_ || synchronizing_ != 0) has_edges_ = true;
        if (synchronizing == 0) continue;
        const std::lock_guard held(mutex_);
        synchronized_ = synchronizing;
        progress_.notify_all();
    }
    is_closing_ = true;
    if (alarm_.armed()) loop_->timers().disarm(alarm_);
    {
        const std::lock_guard held(mutex_);
        accepts_mail_ = false;
        progress_.notify_all();
    }
    loop_.reset();  // ends what is in flight
    read_mail();
}

// Changes. Under the queue's lock, but for read_mail().

int driver_port::start_request(int number, std::uint32_t poll_bits, std::uint64_t tag) noexcept {
    const std::size_t index = request_index(tag);
    try {
        if (requests_.size() <= index) requests_.resize(std::max(index + 1, requests_.size() * 2));
    } catch (const std::bad_alloc&) {
        return -ENOMEM;
    }
    auto* const started = new (std::nothrow) request(*this, number, poll_bits, tag);
    if (started == nullptr) return -ENOMEM;
    requests_[index] = started;
    if (on_driver_thread()) {
        carry_out(*started, false);
    } else {
        mail(*started, false);
    }
    return 0;
}

void driver_port::end_request(std::uint64_t tag) noexcept {
    request* const ended = std::exchange(requests_[request_index(tag)], nullptr);
    if (ended == nullptr) return;
    mail(*ended, true);
}

int driver_port::arm(int number, std::uint32_t poll_bits, std::uint64_t tag) noexcept {
    return start_request(number, poll_bits, tag);
}

// The new request first: if it fails, the old one stays.
int driver_port::change(int number, std::uint32_t poll_bits, std::uint64_t tag) noexcept {
    request* const old = std::exchange(requests_[request_index(tag)], nullptr);
    const int failure = start_request(number, poll_bits, tag);
    request* const current = std::exchange(requests_[request_index(tag)], old);
    if (failure != 0) return failure;
    end_request(tag);
    requests_[request_index(tag)] = current;
    return 0;
}

void driver_port::disarm(int, std::uint64_t tag) noexcept { end_request(tag); }

// On the driver's thread the change is carried out at once, unless an earlier one is still in the
// mailbox: then that is read with the change made.
void driver_port::mail(request& changed, bool disarms) noexcept {
    const bool inline_call = on_driver_thread();
    {
        const std::lock_guard held(mutex_);
        if (disarms) {
            changed.is_disarmed.store(true, std::memory_order_relaxed);
            changed.removed_by = tracked_;
            ++(tracked_ != nullptr ? tracked_->pending_count : ending_count_);
        }
        if (changed.is_mailed) return;
        if (!inline_call && accepts_mail_) {
            changed.is_mailed = true;
            changed.next_mail = std::exchange(mail_, &changed);
            post_mail();
            return;
        }
    }
    carry_out(changed, disarms);
}

void driver_port::post_mail() noexcept {
    if (!std::exchange(has_mail_, true)) loop_->post(mailbox_);
}

// A request is disarmed once and mailed at most once at a time. So the thread that reads here that
// it is disarmed is the last one that knows it.
void driver_port::read_mail() noexcept {
    request* first = nullptr;
    std::int64_t deadline_ns = 0;
    std::unique_lock held(mutex_);
    has_mail_ = false;
    deadline_ns = std::exchange(mailed_deadline_ns_, 0);
    // The newest is first: they are turned round.
    for (request* taken = std::exchange(mail_, nullptr); taken != nullptr;) {
        request* const next = std::exchange(taken->next_mail, first);
        first = std::exchange(taken, next);
    }
    if (!edges_again_.empty() || tests_all_) has_edges_ = true;
    if (synchronize_count_ != synchronized_) {
        synchronizing_ = synchronize_count_;
        has_edges_ = true;
    }
    while (first != nullptr) {
        request& changed = *std::exchange(first, first->next_mail);
        changed.is_mailed = false;
        const bool disarms = changed.is_disarmed.load(std::memory_order_relaxed);
        held.unlock();
        carry_out(changed, disarms);
        held.lock();
    }
    held.unlock();
    // An earlier alarm stays, as in arm_timer(): a thread may have compared its deadline to that
    // since, and mailed none.
    if (deadline_ns != 0 && !is_closing_ && deadline_ns < alarm_ns_.load(std::memory_order_relaxed))
        set_alarm(deadline_ns);
}

// On the driver's thread, or after its end.
void driver_port::carry_out(request& changed, bool disarms) noexcept {
    if (!disarms) {
        if (is_closing_) return;
        changed.in_flight = true;
        loop_->queue(changed);
        return;
    }
    changed.unlink();
    if (!changed.in_flight) return destroy(changed);
    changed.is_ending = true;
    if (!is_closing_) loop_->queue_cancel(changed);
}

// The kernel has released its file.
void driver_port::destroy(request& ended) noexcept {
    {
        const std::lock_guard held(mutex_);
        if (ended.removed_by == nullptr)
            --ending_count_;
        else if (--ended.removed_by->pending_count == 0)
            progress_.notify_all();
    }
    delete &ended;
}

// Calls of the driver itself do not wait for it.
void driver_port::track_removals(removals* of_call) noexcept {
    tracked_ = on_driver_thread() ? nullptr : of_call;
}

void driver_port::await_removals(removals& of_call) noexcept {
    bool others_end = false;
    {
        std::unique_lock held(mutex_);
        progress_.wait(held, [&] { return of_call.pending_count == 0; });
        others_end = ending_count_ != 0;
    }
    // They may be requests of the same registration, which a MODIFY has replaced.
    if (others_end) synchronize();
}

void driver_port::synchronize() noexcept {
    if (on_driver_thread()) return;
    std::unique_lock held(mutex_);
    if (!accepts_mail_) return;
    const std::uint64_t own = ++synchronize_count_;
    post_mail();
    progress_.wait(held, [&] { return synchronized_ >= own || !accepts_mail_; });
}

// Reaps the completions of all that has happened by now.
void driver_port::reap_all() noexcept {
    for (unsigned round = 0; round < reap_round_max && loop_->has_work(); ++round)
        loop_->run_once(false);
}

void driver_port::set_alarm(std::int64_t deadline_ns) noexcept {
    if (alarm_.armed()) loop_->timers().disarm(alarm_);
    loop_->timers().arm(alarm_, deadline_ns);
    alarm_ns_.store(deadline_ns, std::memory_order_relaxed);
}

// An alarm that is set for an earlier time stays: the queue sets it again when it has expired.
int driver_port::arm_timer(std::int64_t deadline_ns) noexcept {
    if (on_driver_thread()) {
        {
            // An older deadline: both are set under the queue's lock.
            const std::lock_guard held(mutex_);
            mailed_deadline_ns_ = 0;
        }
        set_alarm(deadline_ns);
    } else if (deadline_ns < alarm_ns_.load(std::memory_order_relaxed)) {
        const std::lock_guard held(mutex_);
        if (!accepts_mail_) return 0;
        mailed_deadline_ns_ = deadline_ns;
        post_mail();
    }
    return 0;
}

// Edges.

// A completion has the bits of one wake-up. A registration that watches both directions reports all
// bits that are set, and an error may hide others.
std::uint32_t driver_port::missing_bits(const request& reported) const noexcept {
    const std::uint32_t got = reported.reported_bits;
    const std::uint32_t wanted = reported.poll_bits & ~end_group;
    std::uint32_t missing = wanted & ~got;
    if ((got & input_group) != 0) missing &= ~input_group;
    if ((got & output_group) != 0) missing &= ~output_group;
    return missing;
}

// Under the queue's lock, on the driver's thread: each watched descriptor reports its present bits.
void driver_port::test_all() noexcept {
    for (request* const each : requests_) {
        if (each == nullptr || each->is_disarmed.load(std::memory_order_relaxed)) continue;
        pollfd now{each->number, static_cast<short>(each->poll_bits), 0};
        if (kernel::real().poll_nowait(&now, 1) <= 0) continue;
        each->reported_bits |= static_cast<std::uint16_t>(now.revents);
        if (!each->linked()) each->insert_before(reported_);
    }
}

int driver_port::poll(std::span<edge> edges) noexcept {
    if (!on_driver_thread()) return 0;
    std::size_t count = 0;
    if (timer_expired_ && count < edges.size()) {
        timer_expired_ = false;
        edges[count++] = {timer, 0};
    }
    bool tests_all = false;
    {
        const std::lock_guard held(mutex_);
        while (count < edges.size() && !edges_again_.empty()) {
            edges[count++] = edges_again_.back();
            edges_again_.pop_back();
        }
        // A program may ask for more of them than there are registrations: the rest is fetched next.
        if (!edges_again_.empty()) has_edges_ = true;
        tests_all = std::exchange(tests_all_, false);
    }
    if (tests_all) test_all();
    std::array<pollfd, batch_max> incomplete;
    std::array<std::size_t, batch_max> places;
    unsigned incomplete_count = 0;
    while (count < edges.size() && reported_.linked() && incomplete_count < batch_max) {
        auto& reported = static_cast<request&>(*reported_.next);
        reported.unlink();
        const std::uint32_t bits = reported.reported_bits;
        const bool is_incomplete = missing_bits(reported) != 0;
        reported.reported_bits = 0;
        if (reported.is_disarmed.load(std::memory_order_relaxed)) continue;
        if (is_incomplete) {
            places[incomplete_count] = count;
            incomplete[incomplete_count++] = {reported.number,
                                              static_cast<short>(reported.poll_bits), 0};
        }
        edges[count++] = {reported.tag, bits};
    }
    if (incomplete_count != 0 &&
        kernel::real().poll_nowait(incomplete.data(), incomplete_count) > 0) {
        for (unsigned i = 0; i < incomplete_count; ++i)
            edges[places[i]].bits |= static_cast<std::uint16_t>(incomplete[i].revents);
    }
    return static_cast<int>(count);
}

int driver_port::wait(const timespec*) {
    KEVRING_ASSERT(false,
                   "internal error: a thread waits in a port that has a driver; report it with the "
                   "call that led to it");
    return 1;
}

// The descriptor stays armed during the call, so its number is valid here, and only here.
void driver_port::report_again(int number, std::uint32_t poll_bits, std::uint64_t tag) noexcept {
    pollfd now{number, static_cast<short>(poll_bits), 0};
    if (kernel::real().poll_nowait(&now, 1) <= 0) return;
    const std::lock_guard held(mutex_);
    if (!accepts_mail_) return;
    try {
        edges_again_.push_back({tag, static_cast<std::uint16_t>(now.revents)});
    } catch (const std::bad_alloc&) {
        tests_all_ = true;
    }
    post_mail();
}

}  // namespace kevring::detail
