// event_port.cpp: see event_port.hpp.
#include <kevring/kevent/detail/event_port.hpp>

#include <kevring/runtime/assert.hpp>
#include <kevring/runtime/detail/task_work.hpp>

#include <cerrno>
#include <system_error>

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

namespace kevring::detail {
namespace {

fd opened(int number, const char* what) {
    if (number < 0) throw std::system_error(errno, std::system_category(), what);
    return fd(number);
}

// poll(2) and epoll(7) give the bits the same numbers.
static_assert(EPOLLIN == POLLIN && EPOLLOUT == POLLOUT && EPOLLRDHUP == POLLRDHUP);

}  // namespace

event_port::event_port()
    : set_(opened(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1")),
      bell_(opened(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd")),
      level_(opened(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd")) {
    epoll_event request{};
    request.events = EPOLLIN | EPOLLET;
    request.data.u64 = bell;
    if (::epoll_ctl(set_.number(), EPOLL_CTL_ADD, bell_.number(), &request) != 0)
        throw std::system_error(errno, std::system_category(), "epoll_ctl");
    request.events = EPOLLIN;
    request.data.u64 = level;
    if (::epoll_ctl(set_.number(), EPOLL_CTL_ADD, level_.number(), &request) != 0)
        throw std::system_error(errno, std::system_category(), "epoll_ctl");
}

int event_port::control(int operation, int number, std::uint32_t poll_bits,
                        std::uint64_t tag) noexcept {
    epoll_event request{};
    request.events = poll_bits | EPOLLET;
    request.data.u64 = tag;
    return ::epoll_ctl(set_.number(), operation, number, &request) == 0 ? 0 : -errno;
}

int event_port::add(int number, std::uint32_t poll_bits, std::uint64_t tag) noexcept {
    return control(EPOLL_CTL_ADD, number, poll_bits, tag);
}

int event_port::change(int number, std::uint32_t poll_bits, std::uint64_t tag) noexcept {
    return control(EPOLL_CTL_MOD, number, poll_bits, tag);
}

void event_port::remove(int number) noexcept {
    epoll_event ignored{};
    ::epoll_ctl(set_.number(), EPOLL_CTL_DEL, number, &ignored);
}

int event_port::take(epoll_event* into, int capacity) noexcept {
    // Not by epoll_wait(): that is a cancellation point even where it does not wait.
    const auto taken =
        ::syscall(SYS_epoll_pwait, set_.number(), into, capacity, 0, nullptr, std::size_t{8});
    return taken < 0 ? -errno : static_cast<int>(taken);
}

int event_port::wait(epoll_event* into, int capacity, const timespec* timeout) {
    if (may_have_task_work()) {
        // Ends for signal handlers only. It wakes for each edge, also for one that another takes;
        // then it takes none.
        pollfd set{set_.number(), POLLIN, 0};
        const int readable = ::ppoll(&set, 1, timeout, nullptr);
        return readable > 0 ? take(into, capacity) : readable < 0 ? -errno : 0;
    }
    const int taken = ::epoll_pwait2(set_.number(), into, capacity, timeout, nullptr);
    if (taken >= 0) return taken;
    const int error = errno;
    if (error == EINTR) ask_again_for_task_work();
    return -error;
}

int event_port::give_set() noexcept {
    const int copy = ::fcntl(set_.number(), F_DUPFD_CLOEXEC, 0);
    if (copy < 0) return -errno;
    const int given = set_.release();
    set_.reset(copy);
    return given;
}

void event_port::ring_bell() noexcept {
    const std::uint64_t one = 1;
    // Fails only at the end of the counter, and then the bell has been ringing for long.
    while (::write(bell_.number(), &one, sizeof one) < 0 && errno == EAGAIN) {
        std::uint64_t count = 0;
        static_cast<void>(!::read(bell_.number(), &count, sizeof count));
    }
}

void event_port::set_level(bool on) noexcept {
    if (on == level_on_) return;
    std::uint64_t count = 1;
    if (on)
        static_cast<void>(!::write(level_.number(), &count, sizeof count));
    else
        static_cast<void>(!::read(level_.number(), &count, sizeof count));
    level_on_ = on;
}

int event_port::make_alarm() noexcept {
    if (alarm_) return 0;
    alarm_.reset(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
    if (!alarm_) return -errno;
    const int failure = add(alarm_.number(), EPOLLIN, alarm);
    if (failure != 0) alarm_.reset();
    return failure;
}

int event_port::set_alarm(std::int64_t deadline_ns) noexcept {
    KEVRING_ASSERT(deadline_ns > 0);  // 0 would stop the alarm
    itimerspec when{};
    when.it_value.tv_sec = deadline_ns / 1'000'000'000;
    when.it_value.tv_nsec = deadline_ns % 1'000'000'000;
    return ::timerfd_settime(alarm_.number(), TFD_TIMER_ABSTIME, &when, nullptr) == 0 ? 0 : -errno;
}

}  // namespace kevring::detail
