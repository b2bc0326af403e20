// port_choice.cpp: see port_choice.hpp.
#include <kevring/kevent/detail/port_choice.hpp>

#include <kevring/kevent/kevent.h>
#include <kevring/kevent/ports/epoll_port.hpp>
#include <kevring/kevent/ports/ring_port.hpp>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <system_error>

namespace kevring::detail {

namespace {

std::string_view forced_port() noexcept {
    const char* const value = std::getenv("KEVRING_KEVENT_PORT");
    return value == nullptr ? "" : value;
}

}  // namespace

bool is_driver_forced() noexcept { return forced_port() == "driver"; }

chosen_port choose_port(unsigned init_flags) {
    const std::string_view forced = forced_port();
    constexpr std::string_view by_variable = "KEVRING_KEVENT_PORT";
    if (forced == "ring") return {std::make_unique<ring_port>(), by_variable};
    if (forced == "epoll") return {std::make_unique<epoll_port>(), by_variable};
    if (!forced.empty() && forced != "driver") {
        std::fprintf(
            stderr,
            "kevring: KEVRING_KEVENT_PORT=%s names no port of kevent_init; use ring, epoll "
            "or driver, or unset it\n",
            forced.data());
        throw std::system_error(EINVAL, std::system_category(), "KEVRING_KEVENT_PORT");
    }
    if ((init_flags & KEVENT_INIT_ONE_THREAD) != 0)
        return {std::make_unique<ring_port>(), "KEVENT_INIT_ONE_THREAD"};
    return {std::make_unique<epoll_port>(), "any thread may collect"};
}

}  // namespace kevring::detail
