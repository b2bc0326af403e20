#include <kevring/runtime/operations/wait_process.hpp>

#include <kevring/runtime/detail/uring.hpp>

#include <cerrno>

#include <poll.h>
#include <sys/wait.h>

namespace kevring {

result<fd> open_process(process_kernel& system, pid_t process) noexcept {
    const int number = system.open_process(process);
    if (number < 0) return error_from(number);
    return fd(number);
}

result<exit_status> process_status(process_kernel& system, fd_ref process,
                                   zombie_policy zombie) noexcept {
    siginfo_t info{};
    const int options = WEXITED | WNOHANG | (zombie == zombie_policy::keep ? WNOWAIT : 0);
    const int answer = system.wait_process(process.number(), info, options);
    if (answer == -ECHILD) return exit_status{};
    if (answer < 0) return error_from(answer);
    if (info.si_pid == 0) return error_from(-EAGAIN);
    exit_status status;
    status.process = info.si_pid;
    status.code = info.si_status;
    status.kind = info.si_code == CLD_EXITED   ? exit_status::exit_kind::exited
                  : info.si_code == CLD_DUMPED ? exit_status::exit_kind::dumped
                                               : exit_status::exit_kind::killed;
    return status;
}

void wait_process_operation::prepare(io_uring_sqe& sqe) noexcept {
    io_uring_prep_poll_add(&sqe, process_.number(), POLLIN);
}

}  // namespace kevring
