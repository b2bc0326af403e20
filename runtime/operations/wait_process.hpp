// wait_process.hpp: the end of a process that a descriptor refers to.
#pragma once

#include <kevring/runtime/exit_status.hpp>
#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/operation.hpp>
#include <kevring/runtime/process_kernel.hpp>
#include <kevring/runtime/result.hpp>

#include <cstdint>

#include <sys/types.h>

namespace kevring {

/// Opens a descriptor that refers to a process (a pidfd). A number alone may refer to another
/// process later; the descriptor does not. The descriptor is close-on-exec.
///
/// Errors     no_such_process; otherwise as for pidfd_open(2).
/// Kernel     Linux 5.3.
result<fd> open_process(process_kernel& system, pid_t process) noexcept;

/// The fate of the zombie of a child that has ended.
enum class zombie_policy : std::uint8_t {
    reap,  // removed, as by waitpid(2): its number may be reused
    keep,  // left for a later wait
};

/// The status of a process that has ended, by a direct waitid(2), which does not block.
///
/// Result     `kind` is unknown, and `process` 0, for a process that is not a child of this one or
///            whose status other code has consumed.
/// Errors     resource_unavailable_try_again while the child runs; otherwise as for waitid(2).
result<exit_status> process_status(process_kernel& system, fd_ref process,
                                   zombie_policy zombie) noexcept;

/// Waits until a process has ended.
///
/// Result     As process_status().
/// Errors     operation_canceled, timed_out; bad_file_descriptor.
/// Lifetime   `process`, of open_process(), stays open until the await completes.
/// Kernel     IORING_OP_POLL_ADD, Linux 5.1, and waitid(2) with P_PIDFD, Linux 5.4. IORING_OP_WAITID
///            (6.7) would cost one system call less for each process, but needs this fallback anyway.
class [[nodiscard]] wait_process_operation final : public operation {
public:
    wait_process_operation(ring& loop, fd_ref process, zombie_policy zombie = zombie_policy::reap,
                           std::stop_token stop = {})
        : operation(loop, std::move(stop)),
          system_(process_kernel::chosen_by(loop)),
          process_(process),
          zombie_(zombie) {}

    [[nodiscard]] result<exit_status> await_resume() const noexcept {
        if (res() < 0) return failure();
        return process_status(system_, process_, zombie_);
    }
    void prepare(io_uring_sqe& sqe) noexcept override;

private:
    process_kernel& system_;
    fd_ref process_;
    zombie_policy zombie_;
};

}  // namespace kevring
