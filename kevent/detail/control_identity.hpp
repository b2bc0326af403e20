// control_identity.hpp: a test if a descriptor number refers to the control file of a queue.
#pragma once

#include <kevring/runtime/fd.hpp>

#include <cerrno>
#include <cstdint>

#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace kevring::detail {

enum class control_identity : std::uint8_t { closed, other, same, unknown };

/// The meaning of an answer to EPOLL_CTL_MOD of a number, asked of the control file: 0 or -errno.
constexpr control_identity identity_of_answer(int answer) noexcept {
    if (answer == -EINVAL) return control_identity::same;
    return answer == -EBADF ? control_identity::closed : control_identity::other;
}

/// Compares the file of `number` with `own`, the queue's own descriptor of its control file, which
/// is an epoll set. A change of a set within itself is refused with EINVAL before the kernel
/// searches the set; any other file is not found in it (ENOENT), or cannot be polled (EPERM).
///
/// Lifetime   A descriptor that the queue watches in `own` never has the number of its control
///            descriptor (queue_core::watch()), so that this call changes no watch.
/// Thread     Any.
inline control_identity identify_control(int number, fd_ref own) noexcept {
    const int caller_errno = errno;
    epoll_event unused{};
    // Not by epoll_ctl(): the thread sanitizer takes that for a use of the program's descriptor, and
    // reports a race with the close(2) that this call detects.
    const long changed = ::syscall(SYS_epoll_ctl, own.number(), EPOLL_CTL_MOD, number, &unused);
    const int answer = changed == 0 ? 0 : -errno;
    errno = caller_errno;
    return identity_of_answer(answer);
}

}  // namespace kevring::detail
