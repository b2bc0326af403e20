// task_work.hpp: a test for io_uring's work on this thread, which interrupts its system calls.
//
// A request of a ring completes by work on the thread that made it, and so does the end of a ring.
// For that work Linux wakes the thread as for a signal. Most calls that wait are restarted
// afterwards, unless a signal handler has run (signal(7)); epoll_wait(2) does not, and answers
// EINTR in either case. A caller that must distinguish the two waits by ppoll(2) on such a thread.
#pragma once

#include <kevring/runtime/detail/language.hpp>

namespace kevring::detail {

/// True if this thread has made requests of an io_uring, of this library's or its own; from then on
/// for ever. A ring that is not of this library and that the thread begins to use after it has
/// asked here is seen by recheck_task_work() only.
///
/// Kernel     Linux 5.18; before, it is false always.
bool may_have_task_work() noexcept;

/// Makes the next may_have_task_work() of this thread ask the kernel.
void recheck_task_work() noexcept;

/// There is one ring more, which any thread may use.
void count_ring_created() noexcept;

}  // namespace kevring::detail
