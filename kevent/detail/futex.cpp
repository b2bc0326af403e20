// futex.cpp: futex(2), which libc gives no function for.
//
// It is not a call of `kernel`: a futex moves no bytes and is not an event, and the test that wants
// other threads than these replaces the whole of native_threads.
#include <kevring/kevent/detail/futex.hpp>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <ctime>

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace kevring::detail {

static_assert(sizeof(std::atomic<std::uint32_t>) == 4 &&
                  std::atomic<std::uint32_t>::is_always_lock_free,
              "the kernel reads the word itself");

namespace {

constexpr std::int64_t nanoseconds_per_second = 1'000'000'000;

// FUTEX_WAIT_BITSET rather than FUTEX_WAIT: its timeout is a point of CLOCK_MONOTONIC, which does
// not move when the sleep is taken up again.
long wait_until(std::atomic<std::uint32_t>& word, std::uint32_t expected,
                const timespec* until) noexcept {
    return ::syscall(SYS_futex, &word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, expected, until,
                     nullptr, FUTEX_BITSET_MATCH_ANY);
}

}  // namespace

wait_status native_threads::sleep(std::atomic<std::uint32_t>& word, std::uint32_t expected,
                                  steady_deadline deadline) noexcept {
    timespec until{};
    if (deadline != no_deadline) {
        const std::int64_t since_boot_ns = std::max<std::int64_t>(
            0, std::chrono::nanoseconds(deadline.time_since_epoch()).count());
        until.tv_sec = static_cast<std::time_t>(since_boot_ns / nanoseconds_per_second);
        until.tv_nsec = static_cast<long>(since_boot_ns % nanoseconds_per_second);
    }
    const int caller_errno = errno;
    const long answer = wait_until(word, expected, deadline == no_deadline ? nullptr : &until);
    const int error = answer == 0 ? 0 : errno;
    errno = caller_errno;
    if (error == ETIMEDOUT) return wait_status::timed_out;
    if (error == EINTR) return wait_status::interrupted;
    return wait_status::woken;  // EAGAIN is one of these: the word had changed
}

void native_threads::wake(std::atomic<std::uint32_t>& word, std::uint32_t count) noexcept {
    const int caller_errno = errno;
    ::syscall(SYS_futex, &word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG,
              std::min<std::uint32_t>(count, INT_MAX), nullptr, nullptr, 0);
    errno = caller_errno;
}

}  // namespace kevring::detail
