// epoll_port.cpp: see epoll_port.hpp.
#include <kevring/kevent/ports/epoll_port.hpp>

#include <kevring/runtime/assert.hpp>

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

// Not by epoll_wait(): that is a cancellation point even where it does not wait.
int poll_set(int set, epoll_event* events, int capacity) noexcept {
    const auto count =
        ::syscall(SYS_epoll_pwait, set, events, capacity, 0, nullptr, std::size_t{8});
    return count < 0 ? -errno : static_cast<int>(count);
}

int wait_readable(int number, const timespec* timeout) {
    pollfd entry{number, POLLIN, 0};
    const int count = ::ppoll(&entry, 1, timeout, nullptr);
    return count < 0 ? -errno : count;
}

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
    std::array<epoll_event, batch_max> events;
    const std::size_t capacity = std::min<std::size_t>(edges.size(), batch_max);
    const int count = poll_set(set_.number(), events.data(), static_cast<int>(capacity));
    for (int i = 0; i < count; ++i) {
        const auto index = static_cast<std::size_t>(i);
        edges[index] = {events[index].data.u64, events[index].events};
    }
    return count;
}

int epoll_port::wait(const timespec* timeout) {
    // relaxed: set_readable(true) ends a wait_readable() that has begun.
    if (is_readable_.load(std::memory_order_relaxed)) return wait_for_edge(timeout);
    return wait_readable(set_.number(), timeout);
}

int epoll_port::wait_for_edge(const timespec* timeout) {
    if (!edge_set_) {
        edge_set_ = hidden_fd::open([]() noexcept { return ::epoll_create1(EPOLL_CLOEXEC); });
        epoll_event request{};
        request.events = EPOLLIN | EPOLLET;
        if (edge_set_ &&
            ::epoll_ctl(edge_set_.number(), EPOLL_CTL_ADD, set_.number(), &request) != 0)
            edge_set_.reset();
    }
    if (!edge_set_) {
        // No descriptor or no memory: the caller polls at short intervals.
        constexpr timespec interval{0, 10'000'000};
        const bool is_last =
            timeout != nullptr && timeout->tv_sec == 0 && timeout->tv_nsec <= interval.tv_nsec;
        const int result = ::ppoll(nullptr, 0, is_last ? timeout : &interval, nullptr);
        return result < 0 ? -errno : is_last ? 0 : 1;
    }
    const int result = wait_readable(edge_set_.number(), timeout);
    epoll_event consumed;
    if (result > 0) poll_set(edge_set_.number(), &consumed, 1);
    return result;
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
    if (is_readable == is_readable_.load(std::memory_order_relaxed)) return;
    std::uint64_t count = 1;
    if (is_readable)
        static_cast<void>(!::write(readable_fd_.number(), &count, sizeof count));
    else
        static_cast<void>(!::read(readable_fd_.number(), &count, sizeof count));
    is_readable_.store(is_readable, std::memory_order_relaxed);
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
