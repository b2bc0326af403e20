// ring_port.cpp: see ring_port.hpp.
#include <kevring/kevent/ports/ring_port.hpp>

#include <kevring/kevent/ports/event_signal.hpp>
#include <kevring/runtime/features.hpp>
#include <kevring/runtime/kernel.hpp>

#include <cerrno>
#include <cstdint>
#include <new>
#include <system_error>
#include <utility>

#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

namespace kevring::detail {
namespace {

hidden_fd open_eventfd() {
    hidden_fd made =
        hidden_fd::open([]() noexcept { return ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); });
    if (!made) throw std::system_error(errno, std::system_category(), "eventfd");
    return made;
}

hidden_fd create_set() {
    hidden_fd made = hidden_fd::open([]() noexcept { return ::epoll_create1(EPOLL_CLOEXEC); });
    if (!made) throw std::system_error(errno, std::system_category(), "epoll_create1");
    return made;
}

int change_set(int set, int operation, int number, std::uint32_t events) noexcept {
    epoll_event request{};
    request.events = events;
    return ::epoll_ctl(set, operation, number, &request) == 0 ? 0 : -errno;
}

// write(2) and read(2) are cancellation points.
void signal_counter(int number) noexcept {
    const std::uint64_t one = 1;
    static_cast<void>(::syscall(SYS_write, number, &one, sizeof one));
}
void reset_counter(int number) noexcept {
    std::uint64_t count = 0;
    static_cast<void>(::syscall(SYS_read, number, &count, sizeof count));
}

}  // namespace

// The time of a sleep. An event ends it, and the queue makes the control descriptor readable if it
// then waits for more. Afterwards poll() asks for signals again, or, if the thread is cancelled, the
// destructor.
class ring_port::quiet_sleep {
public:
    explicit quiet_sleep(ring_port& port) noexcept : port_(port) {
        port_.ring_->set_signals_event(false);
    }
    quiet_sleep(const quiet_sleep&) = delete;
    quiet_sleep& operator=(const quiet_sleep&) = delete;
    ~quiet_sleep() {
        if (finished) return;
        port_.ring_->set_signals_event(true);
        if (port_.ring_->has_work() || port_.ring_->has_completions()) port_.signal_event();
    }
    bool finished = false;

private:
    ring_port& port_;
};

ring_port::ring_port()
    : set_(create_set()),
      polls_ring_(signals_event_late()),
      event_fd_(open_eventfd()),
      readable_fd_(open_eventfd()),
      wake_fd_(open_eventfd()),
      identifies_(features::get().epoll_control),
      ring_(make_ring()),
      slots_(first_free),
      own_changes_(1U << wake_poll | 1U << handled_poll | 1U << other_poll) {
    slots_[timer].tag = timer;
    for (const int number : {event_fd_.number(), readable_fd_.number()})
        if (const int failure = change_set(set_.number(), EPOLL_CTL_ADD, number, EPOLLIN);
            failure != 0)
            throw std::system_error(-failure, std::system_category(), "epoll_ctl");
}

ring_port::~ring_port() = default;

// The owner.

int ring_port::claim() noexcept {
    if (is_owner()) return 0;
    // acquire: pairs with the release of the thread that has ended.
    if (owner_ != nullptr && !owner_->is_over.load(std::memory_order_acquire)) return -EBUSY;
    try {
        std::shared_ptr<thread_mark> mark = thread_marks::get();
        if (owner_ != nullptr)
            if (const int failure = renew_ring(); failure != 0) return failure;
        if (const int failure = ring_->enable(); failure < 0) return failure;
        owner_ = std::move(mark);
    } catch (const std::bad_alloc&) {
        return -ENOMEM;
    }
    return 0;
}

// No thread can enter the ring of a thread that has ended. The requests of the next ring report the
// bits that are set, and so the activity that the kernel had not delivered.
int ring_port::renew_ring() noexcept {
    try {
        auto made = make_ring();
        take_completions();
        // A child of a fork may keep the ring's file open, and so readable in the set.
        if (polls_ring_) change_set(set_.number(), EPOLL_CTL_DEL, ring_->number(), 0);
        ring_ = std::move(made);
    } catch (const std::bad_alloc&) {
        return -ENOMEM;
    } catch (const std::system_error& failure) {
        return -failure.code().value();
    }
    arm_all();
    return 0;
}

// The ring is disabled yet: were its descriptor polled for the first time later, that would interrupt a
// system call of the owner.
std::unique_ptr<own_ring> ring_port::make_ring() const {
    auto made = std::make_unique<own_ring>(polls_ring_ ? -1 : event_fd_.number());
    if (polls_ring_)
        if (const int failure = change_set(set_.number(), EPOLL_CTL_ADD, made->number(), EPOLLIN);
            failure != 0)
            throw std::system_error(-failure, std::system_category(), "epoll_ctl");
    return made;
}

void ring_port::arm_all() noexcept {
    for (std::uint32_t index = first_free; index < slots_.size(); ++index) {
        slots_[index].is_in_kernel = false;
        if (slots_[index].tag != 0) changes_.push(slots_, index);
    }
    own_changes_ = (1U << own_poll_count) - 1;
}

// Watched descriptors.

ring_port::slot* ring_port::find_slot(std::uint64_t tag) noexcept {
    const auto index = static_cast<std::uint32_t>(tag);
    return index < slots_.size() && slots_[index].tag == tag ? &slots_[index] : nullptr;
}

int ring_port::arm(int number, std::uint32_t poll_bits, std::uint64_t tag) noexcept {
    const auto index = static_cast<std::uint32_t>(tag);
    try {
        if (index >= slots_.size()) slots_.resize(index + 1);
    } catch (const std::bad_alloc&) {
        return -ENOMEM;
    }
    slot& entry = slots_[index];
    entry.number = number;
    if (const int failure = insert_set(entry); failure != 0) return failure;
    struct stat status{};
    entry.is_anonymous =
        kernel::real().stat_file(number, status) < 0 || (status.st_mode & S_IFMT) == 0;
    entry.tag = tag;
    entry.poll_bits = poll_bits;
    entry.reported_bits = 0;
    changes_.push(slots_, index);
    return 0;
}

int ring_port::change(int number, std::uint32_t poll_bits, std::uint64_t tag) noexcept {
    slot* const entry = find_slot(tag);
    if (entry == nullptr) return arm(number, poll_bits, tag);
    const auto index = static_cast<std::uint32_t>(tag);
    if (entry->poll_bits == poll_bits && entry->is_in_kernel) {
        if (entry->prepared_in != call_number_) tests_.push(slots_, index);
    } else {
        entry->poll_bits = poll_bits;
        changes_.push(slots_, index);
    }
    return 0;
}

// An update to the same bits makes the kernel look at the descriptor, and complete the request once
// more if some are set. It fails while a completion is under way, which reports the present bits. A
// report that waits for poll() may be out of date, which an update without completion would not tell.
void ring_port::prepare_change(std::uint64_t tag) noexcept {
    slot* const entry = find_slot(tag);
    if (entry == nullptr || !entry->is_in_kernel || entry->is_changed || entry->is_reported) return;
    io_uring_sqe* const request = ring_->next_entry();
    if (request == nullptr) return;
    const std::uint64_t target = user_data_of(static_cast<std::uint32_t>(tag), entry->serial);
    io_uring_prep_poll_update(request, target, 0, entry->poll_bits,
                              IORING_POLL_UPDATE_EVENTS | IORING_POLL_ADD_MULTI);
    request->flags = IOSQE_CQE_SKIP_SUCCESS;
    request->user_data = user_data_ignored;
    entry->prepared_in = call_number_;
}

// The same question as in identify_control(), in an enter of the owner. The kernel refuses an enter
// by any other thread, and so by a child that shares this memory.
bool ring_port::begin_identification(int number) noexcept {
    if (!identifies_ || !is_owner()) return false;
    unidentified_ = number;
    identity_ = control_identity::unknown;
    return true;
}

control_identity ring_port::end_identification() noexcept {
    unidentified_ = -1;
    if (identity_ != control_identity::same) ++call_number_;  // what is prepared may not be done
    return identity_;
}

void ring_port::disarm(int, std::uint64_t tag) noexcept {
    slot* const entry = find_slot(tag);
    if (entry == nullptr) return;
    remove_set(*entry);
    entry->tag = 0;
    entry->reported_bits = 0;
    if (entry->is_in_kernel) changes_.push(slots_, static_cast<std::uint32_t>(tag));
}

// Only an epoll set knows that two sets would watch each other, and refuses it. So a watched set is
// in the control set too, for no events.
int ring_port::insert_set(slot& entry) noexcept {
    // A set does not find wake_fd_ (ENOENT); another file is no set (EINVAL).
    if (change_set(entry.number, EPOLL_CTL_DEL, wake_fd_.number(), 0) != -ENOENT) return 0;
    const int failure = change_set(set_.number(), EPOLL_CTL_ADD, entry.number, 0);
    entry.is_set = failure == 0;
    return failure;
}

void ring_port::remove_set(slot& entry) noexcept {
    if (std::exchange(entry.is_set, false))
        change_set(set_.number(), EPOLL_CTL_DEL, entry.number, 0);
}

// No call answers this for a file that is in no set. With an empty mask the set reports nothing of
// it but errors, and those only between the two calls.
int ring_port::check_pollable(int number) noexcept {
    const int added = change_set(set_.number(), EPOLL_CTL_ADD, number, EPOLLET);
    if (added == 0) change_set(set_.number(), EPOLL_CTL_DEL, number, 0);
    return added == -EPERM ? -EPERM : 0;
}

// Waiting.

int ring_port::wait(const timespec* timeout) {
    // acquire: pairs with the release in report_again().
    if (std::exchange(is_awake_, false) || !reports_.empty() ||
        has_repeated_.load(std::memory_order_acquire))
        return 1;
    quiet_sleep sleeping(*this);
    const int result = ring_->sleep(timeout);
    sleeping.finished = true;
    if (result == -ETIME) return 0;
    if (result < 0 && result != -EINTR && result != -EBUSY) {
        // No memory. The next poll() submits and collects what it can.
        constexpr timespec pause{0, 1'000'000};
        static_cast<void>(::ppoll(nullptr, 0, &pause, nullptr));
        return 1;
    }
    const auto is_reported = [this](own_poll which) {
        return ring_->has_completion([&](std::uint64_t user_data) {
            return user_data == user_data_of(own_first + which, own_serials_[which]);
        });
    };
    const bool handled = is_reported(handled_poll);
    if (!handled && !is_reported(other_poll)) return 1;
    return handlers_.has_run(handled) ? -EINTR : 1;
}

void ring_port::wake_one() noexcept { signal_counter(wake_fd_.number()); }

void ring_port::signal_event() const noexcept { signal_counter(event_fd_.number()); }

// Any thread: the owner, whether it sleeps or polls the control descriptor.
void ring_port::alert_owner() noexcept {
    signal_event();
    wake_one();
}

// Linux 6.18 defers the signal of a registered eventfd once and no more, until the eventfd is
// registered again (measured). It may come after the reset.
void ring_port::reset_event() noexcept {
    if (was_deferred_ && !polls_ring_ && is_owner()) {
        ring_->unregister_event();
        was_deferred_ = ring_->register_event(event_fd_.number()) < 0;
    }
    reset_counter(event_fd_.number());
    is_certain_ = false;
}

// The control descriptor and the timer.

int ring_port::release_control() noexcept {
    hidden_fd duplicate = hidden_fd::duplicate(set_);
    if (!duplicate) return -errno;
    const int released = set_.release();
    set_ = std::move(duplicate);
    return released;
}

void ring_port::set_readable(bool is_readable) noexcept {
    if (is_readable == std::exchange(is_readable_, is_readable)) return;
    if (is_readable)
        signal_counter(readable_fd_.number());
    else
        reset_counter(readable_fd_.number());
}

int ring_port::create_timer() noexcept {
    if (timer_fd_) return 0;
    timer_fd_ = hidden_fd::open(
        []() noexcept { return ::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK); });
    if (!timer_fd_) return -errno;
    const int failure = change_set(set_.number(), EPOLL_CTL_ADD, timer_fd_.number(), EPOLLIN);
    if (failure != 0)
        timer_fd_.reset();
    else
        own_changes_ |= 1U << timer_poll;
    return failure;
}

int ring_port::arm_timer(std::int64_t deadline_ns) noexcept {
    itimerspec when{};
    when.it_value.tv_sec = deadline_ns / 1'000'000'000;
    when.it_value.tv_nsec = deadline_ns % 1'000'000'000;
    return ::timerfd_settime(timer_fd_.number(), TFD_TIMER_ABSTIME, &when, nullptr) == 0 ? 0
                                                                                         : -errno;
}

}  // namespace kevring::detail
