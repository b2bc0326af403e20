// cancellable_enter.hpp: io_uring_enter(2) as a cancellation point (pthreads(7)).
#pragma once

#include <kevring/runtime/detail/language.hpp>

#include <cstdint>

struct io_uring_getevents_arg;

namespace kevring::detail {

/// Submits `submit_count` entries and waits for one completion.
///
/// Result     As io_uring_enter(2), or a negative error number. A cancelled thread does not return:
///            its stack is unwound through the caller, which must not be noexcept. The kernel keeps
///            what was submitted, and the completions stay in the ring.
int cancellable_enter(int ring_number, unsigned submit_count, const io_uring_getevents_arg& wait);

}  // namespace kevring::detail
