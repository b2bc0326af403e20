#include <kevring/runtime/process_kernel.hpp>

#include <kevring/runtime/detail/hidden_fd.hpp>
#include <kevring/runtime/detail/spawn_request.hpp>
#include <kevring/runtime/ring.hpp>

#include <cerrno>
#include <ctime>

#include <fcntl.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace kevring {
namespace {

class linux_processes final : public process_kernel {};

// The error travels in the value, errno keeps its value.
template <class Number>
Number answer(Number returned, int saved_errno) noexcept {
    if (returned >= 0) return returned;
    const Number error = -errno;
    errno = saved_errno;
    return error;
}

}  // namespace

process_kernel& process_kernel::real() noexcept {
    static linux_processes only;
    return only;
}

process_kernel& process_kernel::chosen_by(ring& loop) {
    return *loop.service<process_kernel_choice>().chosen;
}

pid_t process_kernel::spawn_process(const detail::spawn_request& request) noexcept {
    pid_t process = 0;
    const int error = ::posix_spawnp(&process, request.program, request.actions, request.attributes,
                                     request.arguments, request.environment);
    return error != 0 ? -error : process;
}

int process_kernel::open_process(pid_t process) noexcept {
    const int saved_errno = errno;
    return answer(detail::above_standard(static_cast<int>(::syscall(SYS_pidfd_open, process, 0))),
                  saved_errno);
}

int process_kernel::wait_process(int process, siginfo_t& info, int options) noexcept {
    constexpr auto p_pidfd = static_cast<idtype_t>(3);  // the name is newer than some headers
    const int saved_errno = errno;
    info.si_pid = 0;
    return answer(::waitid(p_pidfd, static_cast<id_t>(process), &info, options), saved_errno);
}

int process_kernel::signal_process(pid_t process, int number) noexcept {
    const int saved_errno = errno;
    return answer(::kill(process, number), saved_errno);
}

int process_kernel::signal_opened(int process, int number, signal_target target) noexcept {
    constexpr unsigned process_group =
        1U << 2;  // PIDFD_SIGNAL_PROCESS_GROUP, include/uapi/linux/pidfd.h
    const int saved_errno = errno;
    return answer(static_cast<int>(::syscall(SYS_pidfd_send_signal, process, number, nullptr,
                                             target == signal_target::group ? process_group : 0U)),
                  saved_errno);
}

int process_kernel::open_pipe(int (&ends)[2]) noexcept {
    const int saved_errno = errno;
    if (::pipe2(ends, O_CLOEXEC) != 0) return answer(-1, saved_errno);
    fd reading(detail::above_standard(ends[0]));
    fd writing(detail::above_standard(ends[1]));
    if (!reading || !writing) return answer(-1, saved_errno);
    ends[0] = reading.release();
    ends[1] = writing.release();
    return 0;
}

// SIGPIPE is sent to the writing thread, where it stays pending while it is blocked. It is removed
// unless it was pending before.
ssize_t process_kernel::write_without_signal(int file, const void* bytes,
                                             std::size_t byte_count) noexcept {
    const int saved_errno = errno;
    sigset_t pipe_signal;
    sigset_t before;
    sigset_t pending;
    ::sigemptyset(&pipe_signal);
    ::sigaddset(&pipe_signal, SIGPIPE);
    ::sigpending(&pending);
    ::pthread_sigmask(SIG_BLOCK, &pipe_signal, &before);
    const ssize_t written = answer(::write(file, bytes, byte_count), saved_errno);
    if (written == -EPIPE && ::sigismember(&pending, SIGPIPE) == 0) {
        const timespec at_once{};
        while (::sigtimedwait(&pipe_signal, nullptr, &at_once) < 0 && errno == EINTR) {}
    }
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    errno = saved_errno;
    return written;
}

}  // namespace kevring
