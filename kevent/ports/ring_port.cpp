// ring_port.cpp: see ring_port.hpp.
#include <kevring/kevent/ports/ring_port.hpp>

#include <kevring/kevent/ports/cancellable_enter.hpp>
#include <kevring/runtime/features.hpp>
#include <kevring/runtime/kernel.hpp>

#include <array>
#include <cerrno>
#include <cstddef>
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

// One enter submits so many changes; a larger batch takes several.
constexpr unsigned submission_entries = 256;
// The kernel delivers some 20 completions in one enter, and the port takes them after each.
constexpr unsigned completion_entries = 1024;
// Descriptors that one poll(2) tests.
constexpr std::size_t tests_max = 64;
// After so many polls in a row that found completions, the kernel is no longer asked to signal the
// eventfd for each: it is signalled once, until a poll finds nothing.
constexpr unsigned busy_polls_max = 4;
// In the user data of a request, the index of the first own_poll.
constexpr std::uint32_t own_first = 1U << 31;

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

constexpr bool has_both_directions(std::uint32_t poll_bits) noexcept {
    return (poll_bits & (POLLIN | POLLRDNORM)) != 0 && (poll_bits & (POLLOUT | POLLWRNORM)) != 0;
}

constexpr std::uint64_t user_data_of(std::uint32_t index, std::uint32_t serial) noexcept {
    return std::uint64_t{serial} << 32 | index;
}

}  // namespace

// A thread that owns ports; the ports learn here that it is over.
struct ring_port::thread_mark {
    explicit thread_mark(std::uint64_t thread) noexcept : thread(thread) {}

    const std::uint64_t thread;
    std::atomic<bool> is_over{false};
};
struct ring_port::thread_marks {
    // Of this thread; 0: none yet. Both outlive the objects that the thread destroys at its end.
    static inline thread_local std::uint64_t present = 0;
    static inline thread_local bool has_ended = false;

    static std::shared_ptr<thread_mark> get() {
        struct holder {
            ~holder() {
                has_ended = true;
                // release: pairs with the acquire in claim().
                mark->is_over.store(true, std::memory_order_release);
            }
            const std::shared_ptr<thread_mark> mark = make();
        };
        if (has_ended) {
            // A call by a destructor at the end of the thread, or of the program: another thread may
            // claim the port at any time.
            std::shared_ptr<thread_mark> mark = make();
            mark->is_over.store(true, std::memory_order_relaxed);
            return mark;
        }
        static thread_local const holder own;
        return own.mark;
    }

private:
    static std::shared_ptr<thread_mark> make() {
        static std::atomic<std::uint64_t> last{0};
        if (present == 0) present = last.fetch_add(1, std::memory_order_relaxed) + 1;
        return std::make_shared<thread_mark>(present);
    }
};

// The io_uring, made disabled: the thread that enables it is its owner.
class ring_port::own_ring {
public:
    explicit own_ring(int event_number) {
        io_uring_params params{};
        params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                       IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE |
                       IORING_SETUP_CLAMP | IORING_SETUP_R_DISABLED;
        params.cq_entries = completion_entries;
        int error = 0;
        fd_ = hidden_fd::open([&]() noexcept {
            error = kernel::real().ring_setup(submission_entries, params, ring_);
            return error < 0 ? -1 : ring_.ring_fd;
        });
        if (error < 0)
            throw std::system_error(-error, std::system_category(), explain_ring_failure(-error));
        if (!fd_) {
            error = errno;
            unmap();
            throw std::system_error(error, std::system_category(), "io_uring_setup");
        }
        // A mapping in the child of a fork would keep the ring, and the registered files.
        io_uring_ring_dontfork(&ring_);
        if (ring_.sq.array != nullptr)
            for (unsigned i = 0; i < params.sq_entries; ++i) ring_.sq.array[i] = i;
        entry_count_ = params.sq_entries;
        completion_mask_ = params.cq_entries - 1;
        tail_ = *ring_.sq.ktail;
        if (const int failure = register_event(event_number); failure < 0) {
            unmap();
            throw std::system_error(-failure, std::system_category(), "io_uring_register");
        }
    }
    own_ring(const own_ring&) = delete;
    ~own_ring() {
        if (fd_) unmap();  // in the child of a fork nothing is mapped
    }

    int register_event(int number) noexcept {
        return kernel::real().ring_register(ring_, IORING_REGISTER_EVENTFD, &number, 1);
    }
    void unregister_event() noexcept {
        kernel::real().ring_register(ring_, IORING_UNREGISTER_EVENTFD, nullptr, 0);
    }
    int enable() noexcept {
        return kernel::real().ring_register(ring_, IORING_REGISTER_ENABLE_RINGS, nullptr, 0);
    }

    /// Null: the queue of submissions is full.
    io_uring_sqe* next_entry() noexcept {
        if (tail_ - load(ring_.sq.khead) >= entry_count_) return nullptr;
        io_uring_sqe* const entry = &ring_.sq.sqes[tail_++ & (entry_count_ - 1)];
        *entry = io_uring_sqe{};
        return entry;
    }
    unsigned room() const noexcept { return entry_count_ - unsubmitted_count(); }
    unsigned unsubmitted_count() const noexcept { return tail_ - load(ring_.sq.khead); }
    /// True if an enter delivers completions.
    bool has_work() const noexcept {
        // acquire: what the kernel did before it set the flag.
        return (load(ring_.sq.kflags) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
    }
    int enter() noexcept {
        // release: the entries are written.
        __atomic_store_n(ring_.sq.ktail, tail_, __ATOMIC_RELEASE);
        return kernel::real().ring_enter(ring_, unsubmitted_count(), 0, IORING_ENTER_GETEVENTS,
                                         nullptr);
    }
    /// Submits, sleeps until there is a completion, and delivers it. A cancellation point.
    ///
    /// Result     As io_uring_enter(2). -EINTR: not after a signal handler; see handler_watch.
    int sleep(const timespec* timeout) {
        // release: the entries are written.
        __atomic_store_n(ring_.sq.ktail, tail_, __ATOMIC_RELEASE);
        const std::uint64_t blocked = handler_watch::blocked_signals();
        __kernel_timespec time{};
        io_uring_getevents_arg argument{};
        argument.sigmask = reinterpret_cast<std::uintptr_t>(&blocked);
        argument.sigmask_sz = sizeof blocked;
        if (timeout != nullptr) {
            time.tv_sec = timeout->tv_sec;
            time.tv_nsec = timeout->tv_nsec;
            argument.ts = reinterpret_cast<std::uintptr_t>(&time);
        }
        return cancellable_enter(ring_.ring_fd, unsubmitted_count(), argument);
    }
    /// True if completions can be taken.
    bool has_completions() const noexcept { return *ring_.cq.khead != load(ring_.cq.ktail); }
    /// True if the kernel signals the eventfd for a completion.
    bool signals_event() const noexcept {
        return (*ring_.cq.kflags & IORING_CQ_EVENTFD_DISABLED) == 0;
    }
    void set_signals_event(bool enabled) noexcept {
        __atomic_store_n(ring_.cq.kflags, enabled ? 0U : IORING_CQ_EVENTFD_DISABLED,
                         __ATOMIC_RELAXED);
        // seq_cst: before a following has_work(). The kernel sets its flag first and reads this one
        // afterwards, so that a completion is seen here, or signalled there.
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
    }
    /// True if `is_wanted` holds for the user data of a completion that was not taken.
    template <class Predicate>
    bool has_completion(Predicate is_wanted) const noexcept {
        const unsigned tail = load(ring_.cq.ktail);
        for (unsigned head = *ring_.cq.khead; head != tail; ++head)
            if (is_wanted(ring_.cq.cqes[head & completion_mask_].user_data)) return true;
        return false;
    }
    template <class Complete>
    void take(Complete complete) noexcept {
        unsigned head = *ring_.cq.khead;
        const unsigned tail = load(ring_.cq.ktail);
        if (head == tail) return;
        do {
            const io_uring_cqe& entry = ring_.cq.cqes[head++ & completion_mask_];
            complete(entry.user_data, entry.res, entry.flags);
        } while (head != tail);
        // release: the entries are read, and the kernel may write them.
        __atomic_store_n(ring_.cq.khead, head, __ATOMIC_RELEASE);
    }
    /// True once for each time that the kernel had no memory for a completion.
    bool has_lost_completions() noexcept {
        return std::exchange(lost_count_, load(ring_.cq.koverflow)) != lost_count_;
    }

private:
    static unsigned load(const unsigned* word) noexcept {
        return __atomic_load_n(word, __ATOMIC_ACQUIRE);
    }
    void unmap() noexcept {
        ring_.ring_fd = ring_.enter_ring_fd = -1;  // fd_ closes it
        kernel::real().ring_exit(ring_);
    }

    hidden_fd fd_;
    io_uring ring_{};
    unsigned entry_count_ = 0;
    unsigned completion_mask_ = 0;
    unsigned tail_ = 0;
    unsigned lost_count_ = 0;
};

// One collection by the owner, under the queue's lock. The kernel signals no eventfd meanwhile.
class ring_port::collection {
public:
    explicit collection(ring_port& port) noexcept : port_(port) {
        if (!port_.ring_->signals_event()) return;
        port_.ring_->set_signals_event(false);
        port_.was_signalled_ = port_.ring_->has_work() || port_.ring_->has_completions();
    }
    collection(const collection&) = delete;
    collection& operator=(const collection&) = delete;
    // The control descriptor is readable while there is a report, or a completion to collect.
    ~collection() {
        port_.was_signalled_ = false;
        if (port_.is_certain_) return;  // until it is reset, a signal would change nothing
        port_.ring_->set_signals_event(true);
        if (port_.busy_polls_ < busy_polls_max && port_.reports_.empty() &&
            port_.changes_.empty() && !port_.ring_->has_work() && !port_.ring_->has_completions())
            return;
        port_.ring_->set_signals_event(false);
        port_.is_certain_ = true;
        port_.signal_event();
    }

private:
    ring_port& port_;
};

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
      event_fd_(open_eventfd()),
      readable_fd_(open_eventfd()),
      wake_fd_(open_eventfd()),
      ring_(std::make_unique<own_ring>(event_fd_.number())),
      slots_(first_free),
      own_changes_(1U << wake_poll | 1U << handled_poll | 1U << other_poll) {
    for (const int number : {event_fd_.number(), readable_fd_.number()})
        if (const int failure = change_set(set_.number(), EPOLL_CTL_ADD, number, EPOLLIN);
            failure != 0)
            throw std::system_error(-failure, std::system_category(), "epoll_ctl");
}

ring_port::~ring_port() = default;

// The owner.

bool ring_port::is_owner() const noexcept {
    return owner_ != nullptr && owner_->thread == thread_marks::present;
}

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

// No thread can enter the ring of a thread that has ended. What the kernel has not delivered there
// is reported by the requests of the next ring, which report the bits that are set.
int ring_port::renew_ring() noexcept {
    try {
        auto made = std::make_unique<own_ring>(event_fd_.number());
        take_completions();
        ring_ = std::move(made);
    } catch (const std::bad_alloc&) {
        return -ENOMEM;
    } catch (const std::system_error& failure) {
        return -failure.code().value();
    }
    arm_all();
    return 0;
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
        tests_.push(slots_, index);
    } else {
        entry->poll_bits = poll_bits;
        changes_.push(slots_, index);
    }
    return 0;
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

// Any thread. The owner takes it with its next poll().
void ring_port::report_again(int number, std::uint32_t poll_bits, std::uint64_t tag) noexcept {
    pollfd now{number, static_cast<short>(poll_bits), 0};
    if (kernel::real().poll_nowait(&now, 1) == 0) return;
    {
        const std::lock_guard held(repeated_mutex_);
        try {
            repeated_.push_back({tag, static_cast<std::uint16_t>(now.revents)});
        } catch (const std::bad_alloc&) {
            tests_all_ = true;
        }
        // release: pairs with the acquire in take_repeated().
        has_repeated_.store(true, std::memory_order_release);
    }
    alert_owner();
}

void ring_port::take_repeated() noexcept {
    if (!has_repeated_.load(std::memory_order_acquire)) return;
    const std::lock_guard held(repeated_mutex_);
    has_repeated_.store(false, std::memory_order_relaxed);
    for (const repeated_report& each : repeated_)
        if (find_slot(each.tag) != nullptr)
            note_report(static_cast<std::uint32_t>(each.tag), each.poll_bits);
    repeated_.clear();
    if (!std::exchange(tests_all_, false)) return;
    for (std::uint32_t index = first_free; index < slots_.size(); ++index)
        if (slots_[index].tag != 0) tests_.push(slots_, index);
}

// Submitting and collecting.

int ring_port::flush() noexcept {
    if (is_owner()) {
        if (changes_.empty() && tests_.empty() && own_changes_ == 0) return 0;
        const collection collecting(*this);
        collect();
    } else if (!changes_.empty() || !tests_.empty()) {
        alert_owner();  // the owner submits the changes
    }
    return 0;
}

void ring_port::note_report(std::uint32_t index, std::uint32_t poll_bits) noexcept {
    slots_[index].reported_bits |= poll_bits;
    reports_.push(slots_, index);
}

void ring_port::complete(std::uint64_t user_data, std::int32_t res, std::uint32_t flags) noexcept {
    const auto index = static_cast<std::uint32_t>(user_data);
    if (index >= own_first) {
        const std::uint32_t which = index - own_first;
        if (own_serials_[which] != user_data >> 32) return;
        if (which == wake_poll) {
            is_awake_ = true;
            was_deferred_ = was_deferred_ || was_signalled_;  // it is an eventfd itself
        }
        if ((flags & IORING_CQE_F_MORE) == 0) own_changes_ |= 1U << which;
        return;
    }
    if (index < first_free || index >= slots_.size()) return;
    slot& entry = slots_[index];
    // The last completion of a request that was cancelled may come after the slot's next request.
    if (!entry.is_in_kernel || entry.serial != user_data >> 32) return;
    was_deferred_ = was_deferred_ || (was_signalled_ && entry.is_anonymous);
    if (res > 0 && entry.tag != 0) {
        const auto bits = static_cast<std::uint32_t>(res);
        // The kernel may name the direction that has changed only, and a report tells of both. Of
        // two completions the first may be out of date.
        if (entry.is_reported ||
            (has_both_directions(entry.poll_bits) && !has_both_directions(bits)))
            tests_.push(slots_, index);
        note_report(index, bits);
    }
    if ((flags & IORING_CQE_F_MORE) != 0) return;
    // The kernel ends a request if it has no memory, or no room for a completion.
    entry.is_in_kernel = false;
    if (entry.tag == 0) return;
    if (res >= 0 || res == -ECANCELED || res == -ENOMEM || res == -EAGAIN)
        changes_.push(slots_, index);
    else
        note_report(index, POLLERR);
}

void ring_port::take_completions() noexcept {
    ring_->take([this](std::uint64_t user_data, std::int32_t res, std::uint32_t flags) noexcept {
        complete(user_data, res, flags);
    });
}

int ring_port::number_of(own_poll which) const noexcept {
    switch (which) {
        case wake_poll: return wake_fd_.number();
        case timer_poll: return timer_fd_.number();
        case handled_poll: return handlers_.handled_fd();
        case other_poll: return handlers_.other_fd();
        case own_poll_count: break;
    }
    return -1;
}

void ring_port::prepare_own_polls() noexcept {
    for (std::uint32_t which = 0; which < own_poll_count; ++which) {
        if ((own_changes_ >> which & 1) == 0) continue;
        const int number = number_of(static_cast<own_poll>(which));
        io_uring_sqe* const request = number < 0 ? nullptr : ring_->next_entry();
        if (number >= 0 && request == nullptr) return;
        own_changes_ &= ~(1U << which);
        if (request == nullptr) continue;
        io_uring_prep_poll_multishot(request, number, POLLIN);
        request->user_data = user_data_of(own_first + which, ++own_serials_[which]);
    }
}

// Writes requests for the changes, as far as the queue of submissions has room.
void ring_port::prepare_changes() noexcept {
    if (own_changes_ != 0) prepare_own_polls();
    while (!changes_.empty() && ring_->room() >= 2) {
        const std::uint32_t index = changes_.pop(slots_);
        slot& entry = slots_[index];
        if (std::exchange(entry.is_in_kernel, false)) {
            // POLL_REMOVE would fail with EALREADY while a completion is pending.
            io_uring_sqe* const request = ring_->next_entry();
            request->opcode = IORING_OP_ASYNC_CANCEL;
            request->fd = -1;
            request->addr = user_data_of(index, entry.serial);
            request->flags = IOSQE_CQE_SKIP_SUCCESS;
            request->user_data = user_data_ignored;
        }
        if (entry.tag == 0) continue;
        io_uring_sqe* const request = ring_->next_entry();
        io_uring_prep_poll_multishot(request, entry.number, entry.poll_bits);
        request->user_data = user_data_of(index, ++entry.serial);
        entry.is_in_kernel = true;
    }
}

// Moves all that the kernel has to the list of reports, and submits the changes. The bound is for a
// peer that is active without end; what came before the call is among the first completions.
void ring_port::collect() noexcept {
    take_repeated();
    const std::size_t round_max = slots_.size() + 16;
    for (std::size_t round = 0; round < round_max; ++round) {
        take_completions();
        if (ring_->has_lost_completions()) arm_all();
        prepare_changes();
        if (ring_->unsubmitted_count() == 0 && !ring_->has_work()) break;
        const int entered = ring_->enter();
        // EBUSY: the queue of completions was full. Other failures are a lack of memory.
        if (entered < 0 && entered != -EINTR && entered != -EBUSY) {
            signal_event();  // another call tries again
            break;
        }
    }
    test_watched();
}

// Finds the present bits of descriptors whose completions do not tell them, or for which the program
// asks: a change to the bits that are watched already reports those that are set. After the
// completions have been taken: they tell of the same activity.
void ring_port::test_watched() noexcept {
    while (!tests_.empty()) {
        std::array<pollfd, tests_max> entries;
        std::array<std::uint32_t, tests_max> indexes;
        unsigned count = 0;
        while (count < tests_max && !tests_.empty()) {
            const std::uint32_t index = tests_.pop(slots_);
            if (slots_[index].tag == 0) continue;
            indexes[count] = index;
            entries[count++] = {slots_[index].number, static_cast<short>(slots_[index].poll_bits),
                                0};
        }
        if (count == 0) break;
        const bool polled = kernel::real().poll_nowait(entries.data(), count) >= 0;
        for (unsigned i = 0; i < count; ++i) {
            const auto bits = static_cast<std::uint16_t>(entries[i].revents);
            slot& entry = slots_[indexes[i]];
            if (!polled)
                changes_.push(slots_, indexes[i]);  // its next request reports them
            else if (entry.is_reported)
                entry.reported_bits = bits;
            else if (bits != 0)
                note_report(indexes[i], bits);
        }
    }
}

unsigned ring_port::take_reports(std::span<edge> edges) noexcept {
    unsigned count = 0;
    while (count < edges.size() && !reports_.empty()) {
        slot& entry = slots_[reports_.pop(slots_)];
        const std::uint32_t bits = std::exchange(entry.reported_bits, 0);
        if (bits != 0) edges[count++] = {entry.tag, bits};
    }
    return count;
}

int ring_port::poll(std::span<edge> edges) noexcept {
    const collection collecting(*this);
    collect();
    unsigned count = take_reports(edges);
    busy_polls_ = count != 0 && was_signalled_ ? busy_polls_ + 1 : 0;
    if (count == 0) {
        reset_event();  // first: another thread may have signalled it since
        collect();
        count = take_reports(edges);
    }
    return static_cast<int>(count);
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
    if (was_deferred_ && is_owner()) {
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
