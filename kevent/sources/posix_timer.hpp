// posix_timer.hpp: timers of any clock, made by kevent_timer_create().
#pragma once

#include <kevring/kevent/detail/source.hpp>

struct itimerspec;

namespace kevring::detail {

/// Makes the timer and starts it.
///
/// Errors     Those of timerfd_create(2) and timerfd_settime(2); invalid_argument for a timer that
///            would never expire.
result<std::unique_ptr<source>> make_posix_timer_source(source_host& host, registration& target,
                                                        int clock, const itimerspec& when,
                                                        int flags);

}  // namespace kevring::detail
