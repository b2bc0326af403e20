// handler_watch.cpp: see handler_watch.hpp.
#include <kevring/kevent/ports/handler_watch.hpp>

#include <cerrno>
#include <system_error>
#include <utility>

#include <signal.h>
#include <sys/signalfd.h>

namespace kevring::detail {
namespace {

constexpr int signal_count = 64;

constexpr std::uint64_t bit_of(int signal) noexcept { return std::uint64_t{1} << (signal - 1); }

std::uint64_t bits_of(const sigset_t& set) noexcept {
    std::uint64_t bits = 0;
    for (int signal = 1; signal <= signal_count; ++signal)
        if (::sigismember(&set, signal) == 1) bits |= bit_of(signal);
    return bits;
}

sigset_t set_of(std::uint64_t bits) noexcept {
    sigset_t set;
    ::sigemptyset(&set);
    for (int signal = 1; signal <= signal_count; ++signal)
        if ((bits & bit_of(signal)) != 0) ::sigaddset(&set, signal);
    return set;
}

constexpr bool ends_process_by_default(int signal) noexcept {
    switch (signal) {
        case SIGCHLD:
        case SIGCONT:
        case SIGSTOP:
        case SIGTSTP:
        case SIGTTIN:
        case SIGTTOU:
        case SIGURG:
        case SIGWINCH: return false;
        default: return true;
    }
}

// Signals that have a handler now, and those that end the process without one: a process that lives
// on after one of them has handled it, by a handler that may have removed itself.
std::uint64_t find_caught() noexcept {
    std::uint64_t caught = 0;
    for (int signal = 1; signal <= signal_count; ++signal) {
        struct sigaction present{};
        if (::sigaction(signal, nullptr, &present) == 0 && present.sa_handler != SIG_IGN &&
            (present.sa_handler != SIG_DFL || ends_process_by_default(signal)))
            caught |= bit_of(signal);
    }
    return caught;
}

std::uint64_t find_blocked() noexcept {
    sigset_t blocked;
    ::sigemptyset(&blocked);
    ::pthread_sigmask(SIG_BLOCK, nullptr, &blocked);
    return bits_of(blocked);
}

std::uint64_t find_pending() noexcept {
    sigset_t pending;
    ::sigemptyset(&pending);
    ::sigpending(&pending);
    return bits_of(pending);
}

// For SIGKILL, SIGSTOP and the signals of the C library a signalfd reports nothing.
hidden_fd open_signalfd(std::uint64_t bits) {
    const sigset_t set = set_of(bits);
    hidden_fd opened = hidden_fd::open(
        [&set]() noexcept { return ::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK); });
    if (!opened) throw std::system_error(errno, std::system_category(), "signalfd");
    return opened;
}

}  // namespace

handler_watch::handler_watch()
    : handled_(find_caught() & ~find_blocked()),
      handled_fd_(open_signalfd(handled_)),
      other_fd_(open_signalfd(~handled_)) {}

// The C library keeps the real-time signals below SIGRTMIN for itself.
std::uint64_t handler_watch::blocked_signals() noexcept {
    constexpr int first_realtime = 32;
    std::uint64_t blocked = ~std::uint64_t{0};
    for (int signal = first_realtime; signal < SIGRTMIN; ++signal) blocked &= ~bit_of(signal);
    return blocked;
}

void handler_watch::watch(std::uint64_t handled) noexcept {
    handled_ = handled;
    const sigset_t handled_set = set_of(handled);
    const sigset_t other_set = set_of(~handled);
    static_cast<void>(::signalfd(handled_fd_.number(), &handled_set, 0));
    static_cast<void>(::signalfd(other_fd_.number(), &other_set, 0));
}

bool handler_watch::has_run(bool handled_was_reported) noexcept {
    const std::uint64_t blocked = find_blocked();
    const std::uint64_t handled = find_caught() & ~blocked;
    const std::uint64_t before = std::exchange(handled_, handled);
    if (before != handled) watch(handled);
    // A signal that the thread blocks by now may have been the reason; then it is still pending.
    if (handled_was_reported) return (before & blocked & find_pending()) == 0;
    // One of the others has a handler by now.
    return (handled & ~before) != 0;
}

}  // namespace kevring::detail
