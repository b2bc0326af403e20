// congestion.hpp: the congestion controls under which each benchmark of transfers runs. Pacing
// (bbr) can double the CPU time of a large transfer, and hide or invert the effect of a change.
#pragma once

#include <kevring/runtime/fd.hpp>

#include <array>
#include <cstring>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

inline constexpr std::array<const char*, 3> congestion_controls{"reno", "cubic", "bbr"};

/// False where the kernel has no such algorithm, or the user may not choose it.
inline bool is_available(const char* congestion_control) {
    const kevring::fd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    return ::setsockopt(socket.number(), IPPROTO_TCP, TCP_CONGESTION, congestion_control,
                        static_cast<socklen_t>(std::strlen(congestion_control))) == 0;
}
