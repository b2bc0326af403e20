// event_signal.hpp: when the kernel signals an eventfd that is registered with an io_uring.
#pragma once

#include <kevring/runtime/detail/language.hpp>

namespace kevring::detail {

/// True if this kernel signals the registered eventfd of a ring with IORING_SETUP_DEFER_TASKRUN some
/// milliseconds after the event, and only once for each registration, as Linux 6.12.118 does. The ring's
/// own descriptor is readable at once on such a kernel, and wakes a thread that polls it; on Linux
/// 6.18 it does not wake it.
///
/// Thread     Any; found out at the first call.
/// Errors     While the test fails, for example without a descriptor, the answer is false.
bool signals_event_late() noexcept;

}  // namespace kevring::detail
