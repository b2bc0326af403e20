// loopback_listener.hpp: a listening TCP socket on loopback, and connections to it.
#pragma once

#include <kevring/runtime/fd.hpp>

#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

/// Both ends of a connection.
struct loopback_connection {
    kevring::fd dialled;
    kevring::fd accepted;
};

/// Throws std::system_error if a system call fails.
class loopback_listener {
public:
    /// Connections inherit `congestion`, a congestion control algorithm; null: the system's.
    explicit loopback_listener(const char* congestion = nullptr) {
        where_.sin_family = AF_INET;
        where_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof where_;
        if (congestion != nullptr)
            must(::setsockopt(socket_.number(), IPPROTO_TCP, TCP_CONGESTION, congestion,
                              static_cast<socklen_t>(std::strlen(congestion))) == 0,
                 congestion);
        must(::bind(socket_.number(), address(), size) == 0, "bind");
        must(::listen(socket_.number(), 128) == 0, "listen");
        must(::getsockname(socket_.number(), address(), &size) == 0, "getsockname");
    }

    kevring::fd_ref native() const noexcept { return socket_; }
    const sockaddr_in& where() const noexcept { return where_; }

    kevring::fd dial() const {
        kevring::fd made(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        must(::connect(made.number(), reinterpret_cast<const sockaddr*>(&where_), sizeof where_) ==
                 0,
             "connect");
        return made;
    }
    kevring::fd accept(int flags = 0) const {
        kevring::fd made(::accept4(socket_.number(), nullptr, nullptr, SOCK_CLOEXEC | flags));
        must(made.valid(), "accept");
        return made;
    }
    /// `flags` are those of the accepted end: 0 or SOCK_NONBLOCK.
    loopback_connection connect(int flags = 0) const {
        kevring::fd dialled = dial();
        return {std::move(dialled), accept(flags)};
    }

private:
    static void must(bool done, const char* what) {
        if (!done) throw std::system_error(errno, std::system_category(), what);
    }
    sockaddr* address() noexcept { return reinterpret_cast<sockaddr*>(&where_); }

    kevring::fd socket_{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    sockaddr_in where_{};
};
