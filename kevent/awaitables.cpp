// awaitables.cpp: see awaitables.hpp.
#include <kevring/kevent/awaitables.hpp>

#include <kevring/runtime/detail/hidden_fd.hpp>

#include <cerrno>

#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace kevring {

descriptor_events readable(fd_ref file) noexcept { return {file, POLLIN}; }
descriptor_events writable(fd_ref file) noexcept { return {file, POLLOUT}; }

task<result<exit_status>> wait_for_exit(pid_t process) {
    const fd handle(
        detail::above_standard(static_cast<int>(::syscall(SYS_pidfd_open, process, 0))));
    if (!handle) co_return error_from_errno();
    const auto ended = co_await readable(handle);
    if (!ended) co_return tl::unexpected<std::error_code>(ended.error());

    exit_status status;
    status.process = process;
    siginfo_t info{};
    constexpr auto p_pidfd = static_cast<idtype_t>(3);  // the name is newer than some headers
    // Fails for processes of others (ECHILD): that it has ended is all that can be known of them.
    if (::waitid(p_pidfd, static_cast<id_t>(handle.number()), &info, WEXITED | WNOHANG) == 0 &&
        info.si_pid == process) {
        status.code = info.si_status;
        status.kind = info.si_code == CLD_EXITED   ? exit_status::exit_kind::exited
                      : info.si_code == CLD_DUMPED ? exit_status::exit_kind::dumped
                                                   : exit_status::exit_kind::killed;
    }
    co_return status;
}

}  // namespace kevring
