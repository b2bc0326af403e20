// signal_stream.cpp: see signal_stream.hpp.
#include <kevring/kevent/signal_stream.hpp>

#include <kevring/kevent/detail/next_item.hpp>
#include <kevring/runtime/detail/hidden_fd.hpp>

#include <cerrno>

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

namespace kevring {
namespace {

constexpr int last_signal = 64;

result<sigset_t> native(signal_set wanted) noexcept {
    sigset_t made;
    ::sigemptyset(&made);
    if (wanted.empty() || wanted.contains(SIGKILL) || wanted.contains(SIGSTOP))
        return error_from(-EINVAL);
    for (int number = 1; number <= last_signal; ++number) {
        if (wanted.contains(number) && ::sigaddset(&made, number) != 0) return error_from(-EINVAL);
    }
    return made;
}

}  // namespace

result<void> signal_set::block() const noexcept {
    const auto set = native(*this);
    if (!set) return tl::unexpected<std::error_code>(set.error());
    const int failure = ::pthread_sigmask(SIG_BLOCK, &*set, nullptr);
    if (failure != 0) return error_from(-failure);
    return {};
}

result<signal_stream> signal_stream::open(signal_set wanted) noexcept {
    const auto set = native(wanted);
    if (!set) return tl::unexpected<std::error_code>(set.error());
    fd taker(detail::above_standard(::signalfd(-1, &*set, SFD_CLOEXEC | SFD_NONBLOCK)));
    if (!taker) return error_from_errno();
    // Last: what fails leaves the thread's mask alone.
    if (const auto blocked = wanted.block(); !blocked)
        return tl::unexpected<std::error_code>(blocked.error());
    return signal_stream(std::move(taker));
}

task<result<void>> signal_stream::fetch() {
    // Read here and not through the ring: a worker thread of the kernel has other signals pending.
    auto take = [&]() -> result<std::optional<signal_info>> {
        signalfd_siginfo info{};
        const ssize_t count = ::read(signal_fd_.number(), &info, sizeof info);
        if (count != sizeof info) {
            if (count < 0 && errno != EAGAIN && errno != EINTR) return error_from_errno();
            return std::optional<signal_info>();
        }
        signal_info taken;
        taken.number = static_cast<int>(info.ssi_signo);
        taken.code = info.ssi_code;
        taken.sender = static_cast<pid_t>(info.ssi_pid);
        taken.sender_user = info.ssi_uid;
        taken.value = info.ssi_int;
        return std::optional(taken);
    };
    co_return co_await detail::fetch_item(fd_ref(signal_fd_), edges_, take, fetched_);
}

task<result<signal_info>> signals(signal_set wanted) {
    auto stream = signal_stream::open(wanted);
    if (!stream) co_return tl::unexpected<std::error_code>(stream.error());
    co_return co_await stream->next();
}

}  // namespace kevring
