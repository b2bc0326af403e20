// epoll_port.cpp: see epoll_port.hpp.
#include <kevring/kevent/ports/epoll_port.hpp>

#include <kevring/runtime/assert.hpp>
#include <kevring/runtime/detail/task_work.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <system_error>
#include <utility>

#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

namespace kevring::detail {
namespace {

hidden_fd create_eventfd() noexcept {
    return hidden_fd::open([]() noexcept { return ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); });
}

hidden_fd valid_or_throw(hidden_fd opened, const char* call) {
    if (!opened) throw std::system_error(errno, std::system_category(), call);
    return opened;
}

// poll(2) and epoll(7) give the bits the same numbers.
static_assert(EPOLLIN == POLLIN && EPOLLOUT == POLLOUT && EPOLLRDHUP == POLLRDHUP);

using event_array = std::array<epoll_event, port::batch_max>;

int capacity_of(std::span<const edge> edges) noexcept {
    return static_cast<int>(std::min<std::size_t>(edges.size(), port::batch_max));
}

void copy(const event_array& events, int count, std::span<edge> edges) noexcept {
    for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i)
        edges[i] = {events[i].data.u64, events[i].events};
}

// The events of a wait that may end by cancellation: then the kernel's count is lost, and the tags
// that it has overwritten tell how many events there are.
class cancelled_events {
public:
    cancelled_events(event_array& events, std::span<edge> edges) noexcept
        : events_(events), edges_(edges) {
        for (int i = 0; i < capacity_of(edges_); ++i)
            events_[static_cast<std::size_t>(i)].data.u64 = port::none;
    }
    cancelled_events(const cancelled_events&) = delete;
    cancelled_events& operator=(const cancelled_events&) = delete;
    ~cancelled_events() {
        if (returned) return;
        int count = 0;
        while (count < capacity_of(edges_) &&
               events_[static_cast<std::size_t>(count)].data.u64 != port::none)
            ++count;
        copy(events_, count, edges_);
    }

    bool returned = false;

private:
    event_array& events_;
    const std::span<edge> edges_;
};

}  // namespace

epoll_port::epoll_port()
    : set_(valid_or_throw(hidden_fd::open([]() noexcept { return ::epoll_create1(EPOLL_CLOEXEC); }),
                          "epoll_create1")),
      wake_fd_(valid_or_throw(create_eventfd(), "eventfd")),
      readable_fd_(valid_or_throw(create_eventfd(), "eventfd")) {
    epoll_event request{};
    request.events = EPOLLIN | EPOLLET;
    request.data.u64 = wake;
    if (::epoll_ctl(set_.number(), EPOLL_CTL_ADD, wake_fd_.number(), &request) != 0)
        throw std::system_error(errno, std::system_category(), "epoll_ctl");
    request.events = EPOLLIN;
    request.data.u64 = readable;
    if (::epoll_ctl(set_.number(), EPOLL_CTL_ADD, readable_fd_.number(), &request) != 0)
        throw std::system_error(errno, std::system_category(), "epoll_ctl");
}

int epoll_port::change_set(int operation, int number, std::uint32_t poll_bits,
                           std::uint64_t tag) noexcept {
    epoll_event request{};
    request.events = poll_bits | EPOLLET;
    request.data.u64 = tag;
    return ::epoll_ctl(set_.number(), operation, number, &request) == 0 ? 0 : -errno;
}

int epoll_port::arm(int number, std::uint32_t poll_bits, std::uint64_t tag) noexcept {
    return change_set(EPOLL_CTL_ADD, number, poll_bits, tag);
}

int epoll_port::change(int number, std::uint32_t poll_bits, std::uint64_t tag) noexcept {
    return change_set(EPOLL_CTL_MOD, number, poll_bits, tag);
}

// No call answers this for a file that is in no set. With an empty mask the set reports nothing of
// it but errors, and those only between the two calls.
int epoll_port::check_pollable(int number) noexcept {
    epoll_event request{};
    request.events = EPOLLET;
    request.data.u64 = none;
    if (::epoll_ctl(set_.number(), EPOLL_CTL_ADD, number, &request) != 0)
        return errno == EPERM ? -EPERM : 0;
    ::epoll_ctl(set_.number(), EPOLL_CTL_DEL, number, &request);
    return 0;
}

void epoll_port::report_again(int number, std::uint32_t poll_bits, std::uint64_t tag) noexcept {
    change_set(EPOLL_CTL_MOD, number, poll_bits, tag);
}

void epoll_port::disarm(int number, std::uint64_t) noexcept {
    epoll_event ignored{};
    ::epoll_ctl(set_.number(), EPOLL_CTL_DEL, number, &ignored);
}

int epoll_port::poll(std::span<edge> edges) noexcept {
    event_array events;
    // Not by epoll_wait(): that is a cancellation point even where it does not wait.
    const auto count = ::syscall(SYS_epoll_pwait, set_.number(), events.data(), capacity_of(edges),
                                 0, nullptr, std::size_t{8});
    if (count < 0) return -errno;
    copy(events, static_cast<int>(count), edges);
    return static_cast<int>(count);
}

int epoll_port::wait(std::span<edge> edges, const timespec* timeout) {
    if (may_have_task_work()) {
        // Ends for signal handlers only. It wakes for each edge, also for one that another thread
        // consumes; then it returns none.
        pollfd set{set_.number(), POLLIN, 0};
        const int ready = ::ppoll(&set, 1, timeout, nullptr);
        return ready > 0 ? poll(edges) : ready < 0 ? -errno : 0;
    }
    event_array events;
    cancelled_events guard(events, edges);
    const int count =
        ::epoll_pwait2(set_.number(), events.data(), capacity_of(edges), timeout, nullptr);
    const int error = errno;
    guard.returned = true;
    if (count >= 0) {
        copy(events, count, edges);
        return count;
    }
    if (error == EINTR) ask_again_for_task_work();
    return -error;
}

int epoll_port::release_control() noexcept {
    hidden_fd duplicate = hidden_fd::duplicate(set_);
    if (!duplicate) return -errno;
    const int released = set_.release();
    set_ = std::move(duplicate);
    return released;
}

void epoll_port::wake_one() noexcept {
    const std::uint64_t one = 1;
    // Fails only if the counter is at its limit; it is reset then and signalled again.
    while (::write(wake_fd_.number(), &one, sizeof one) < 0 && errno == EAGAIN) {
        std::uint64_t count = 0;
        static_cast<void>(!::read(wake_fd_.number(), &count, sizeof count));
    }
}

void epoll_port::set_readable(bool is_readable) noexcept {
    if (is_readable == is_readable_) return;
    std::uint64_t count = 1;
    if (is_readable)
        static_cast<void>(!::write(readable_fd_.number(), &count, sizeof count));
    else
        static_cast<void>(!::read(readable_fd_.number(), &count, sizeof count));
    is_readable_ = is_readable;
}

int epoll_port::create_timer() noexcept {
    if (timer_fd_) return 0;
    timer_fd_ = hidden_fd::open(
        []() noexcept { return ::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK); });
    if (!timer_fd_) return -errno;
    const int failure = arm(timer_fd_.number(), EPOLLIN, timer);
    if (failure != 0) timer_fd_.reset();
    return failure;
}

int epoll_port::arm_timer(std::int64_t deadline_ns) noexcept {
    KEVRING_ASSERT(deadline_ns > 0,
                   "internal error: a deadline of 0 would disarm the timer; report it with the "
                   "call that led to it");
    itimerspec when{};
    when.it_value.tv_sec = deadline_ns / 1'000'000'000;
    when.it_value.tv_nsec = deadline_ns % 1'000'000'000;
    return ::timerfd_settime(timer_fd_.number(), TFD_TIMER_ABSTIME, &when, nullptr) == 0 ? 0
                                                                                         : -errno;
}

}  // namespace kevring::detail
