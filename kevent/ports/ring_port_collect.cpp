// ring_port_collect.cpp: a ring_port submits its changes and collects completions.
#include <kevring/kevent/ports/ring_port.hpp>

#include <kevring/runtime/kernel.hpp>

#include <array>
#include <cerrno>
#include <cstddef>
#include <new>
#include <utility>

#include <poll.h>
#include <sys/epoll.h>

namespace kevring::detail {
namespace {

// Descriptors that one poll(2) tests.
constexpr std::size_t tests_max = 64;
// After this number of polls in a row that found completions, the kernel is no longer asked to signal
// the eventfd for each: it is signalled once, until a poll finds nothing.
constexpr unsigned busy_polls_max = 4;

constexpr bool has_both_directions(std::uint32_t poll_bits) noexcept {
    return (poll_bits & (POLLIN | POLLRDNORM)) != 0 && (poll_bits & (POLLOUT | POLLWRNORM)) != 0;
}

}  // namespace

// One collection by the owner, under the queue's lock. The kernel signals no eventfd in
// that time.
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

int ring_port::flush() noexcept {
    if (is_owner()) {
        if (unidentified_ < 0) ++call_number_;
        if (changes_.empty() && tests_.empty() && own_changes_ == 0 && unidentified_ < 0) return 0;
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
    if (index == identification_index) {
        const bool answers = res == -EINVAL || res == -ENOENT || res == -EPERM || res == -EBADF;
        if (answers && identification_serial_ == user_data >> 32)
            identity_ = identity_of_answer(res);
        return;
    }
    if (index >= own_first) {
        const std::uint32_t which = index - own_first;
        if (own_serials_[which] != user_data >> 32) return;
        if (which == wake_poll) {
            is_awake_ = true;
            was_deferred_ = was_deferred_ || was_signalled_;  // it is an eventfd itself
        }
        // The queue sets the timer again, even if its clock is a moment before the deadline.
        if (which == timer_poll && res > 0) note_report(timer, POLLIN);
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
        // The kernel may name the direction that has changed only, and a report contains both. Of
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

void ring_port::prepare_identification() noexcept {
    static epoll_event unused{};
    io_uring_sqe* const request = ring_->next_entry();
    if (request == nullptr) return;
    io_uring_prep_epoll_ctl(request, set_.number(), std::exchange(unidentified_, -1), EPOLL_CTL_MOD,
                            &unused);
    request->user_data = user_data_of(identification_index, ++identification_serial_);
}

// Writes requests for the changes, as far as the queue of submissions has room.
void ring_port::prepare_changes() noexcept {
    if (unidentified_ >= 0) prepare_identification();
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

// Finds the present bits of descriptors whose completions do not contain them, or for which the
// program asks: a change to the bits that are watched already reports those that are set. Called
// after the completions have been taken: they report the same activity.
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
    // The timer's own report is no event of a descriptor, which would keep the eventfd signalled.
    const bool in_vain = count == 0 || (count == 1 && edges.front().tag == timer);
    busy_polls_ = !in_vain && was_signalled_ ? busy_polls_ + 1 : 0;
    if (in_vain) {
        reset_event();  // first: another thread may have signalled it since
        collect();
        count += take_reports(edges.subspan(count));
    }
    return static_cast<int>(count);
}

}  // namespace kevring::detail
