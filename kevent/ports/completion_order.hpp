// completion_order.hpp: the order in which the kernel delivers completions of one enter.
#pragma once

#include <kevring/runtime/detail/language.hpp>

namespace kevring::detail {

/// True if this kernel delivers the completions that one io_uring_enter(2) collects in the reverse
/// order of their events, as Linux 6.1 does with IORING_SETUP_DEFER_TASKRUN. Those of requests that
/// complete at their submission come in order, before the others, and events that come while the
/// kernel delivers are a list of their own.
///
/// Thread     Any; found out at the first call.
/// Errors     While the test fails, for example without a descriptor, the answer is false.
bool reverses_completions() noexcept;

}  // namespace kevring::detail
