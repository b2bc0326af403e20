// port_choice.hpp: the port that serves a queue of the C interface, and the reason for it.
#pragma once

#include <kevring/kevent/ports/port.hpp>

#include <memory>
#include <string_view>

namespace kevring::detail {

struct chosen_port {
    std::unique_ptr<port> carrier;
    std::string_view reason;  // static; for kevent_describe(3)
};

/// True if the environment variable KEVRING_KEVENT_PORT names `driver`: then a queue with a ring is
/// published by a driver, whatever the flags of kevent_init().
bool is_driver_forced() noexcept;

/// Makes the port that `init_flags` of kevent_init() ask for, or the one that the environment
/// variable KEVRING_KEVENT_PORT names: `ring` or `epoll`. A driver has no place for the records of a
/// queue without a ring; for such a queue `driver` changes nothing.
///
/// Errors     std::system_error: io_uring is refused, or no descriptor is left; EINVAL and a line on
///            the standard error output: the variable has another value. std::bad_alloc.
chosen_port choose_port(unsigned init_flags);

}  // namespace kevring::detail
