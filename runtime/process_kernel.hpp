// process_kernel.hpp: the system calls for processes, which a test overrides.
#pragma once

#include <kevring/runtime/ring_service.hpp>

#include <cstddef>
#include <cstdint>

#include <signal.h>
#include <sys/types.h>

namespace kevring {

class ring;

namespace detail {
struct spawn_request;
}

/// The receivers of a signal to a process that a descriptor refers to.
enum class signal_target : std::uint8_t {
    process,
    group,  // the processes whose process group has the number of that process
};

/// The calls about processes and their pipes. They answer as those of `kernel`: a count or a
/// number, or a negated errno; none of them changes errno.
///
/// Thread     Any.
class process_kernel {
public:
    virtual ~process_kernel() = default;

    /// The kernel that this process runs on.
    static process_kernel& real() noexcept;
    /// That of a ring; real() unless a test has replaced it.
    ///
    /// Thread     The ring's own.
    static process_kernel& chosen_by(ring& loop);

    /// posix_spawnp(3); the number of the process.
    virtual pid_t spawn_process(const detail::spawn_request& request) noexcept;
    /// pidfd_open(2); close-on-exec, and no standard descriptor.
    virtual int open_process(pid_t process) noexcept;
    /// waitid(2) of the process that a descriptor refers to.
    virtual int wait_process(int process, siginfo_t& info, int options) noexcept;
    virtual int signal_process(pid_t process, int number) noexcept;  // kill(2)
    /// pidfd_send_signal(2), which reaches no later process with the same number. For a group it is
    /// -EINVAL before Linux 6.9.
    virtual int signal_opened(int process, int number, signal_target target) noexcept;
    /// A pipe whose ends are close-on-exec, and no standard descriptors.
    virtual int open_pipe(int (&ends)[2]) noexcept;
    /// write(2) that raises no SIGPIPE.
    virtual ssize_t write_without_signal(int file, const void* bytes,
                                         std::size_t byte_count) noexcept;

protected:
    process_kernel() = default;
    process_kernel(const process_kernel&) = default;
    process_kernel& operator=(const process_kernel&) = default;
};

/// The process_kernel of a ring: loop.service<process_kernel_choice>().
struct process_kernel_choice final : ring_service {
    explicit process_kernel_choice(ring&) noexcept {}
    process_kernel* chosen = &process_kernel::real();
};

}  // namespace kevring
