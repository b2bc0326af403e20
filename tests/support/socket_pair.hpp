// socket_pair.hpp: two connected stream sockets; the test owns both ends.
#pragma once

#include <kevring/runtime/fd.hpp>

#include <array>
#include <string>
#include <string_view>
#include <system_error>

#include <sys/socket.h>
#include <unistd.h>

class socket_pair {
public:
    socket_pair() {
        std::array<int, 2> made{};
        if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, made.data()) != 0)
            throw std::system_error(errno, std::system_category(), "socketpair");
        near_.reset(made[0]);
        far_.reset(made[1]);
    }

    kevring::fd_ref near() const noexcept { return near_; }
    kevring::fd_ref far() const noexcept { return far_; }
    void close_near() noexcept { near_.reset(); }
    void close_far() noexcept { far_.reset(); }

    void far_sends(std::string_view text) const {
        if (::send(far_.number(), text.data(), text.size(), MSG_NOSIGNAL) !=
            static_cast<ssize_t>(text.size()))
            throw std::system_error(errno, std::system_category(), "send");
    }
    // Receives the bytes that are available at the peer, without waiting.
    std::string far_hears() const {
        std::string text(1 << 16, '\0');
        const ssize_t count = ::recv(far_.number(), text.data(), text.size(), MSG_DONTWAIT);
        text.resize(count < 0 ? 0 : static_cast<std::size_t>(count));
        return text;
    }
    // Fills the buffers in the direction to the peer, so that the next send must wait.
    std::size_t fill() const {
        const std::string block(4096, 'f');
        std::size_t byte_count = 0;
        ssize_t count = 0;
        while ((count = ::send(near_.number(), block.data(), block.size(), MSG_DONTWAIT)) > 0)
            byte_count += static_cast<std::size_t>(count);
        return byte_count;
    }
    void drain_far(std::size_t byte_count) const {
        while (byte_count > 0) {
            const std::size_t received = far_hears().size();
            if (received == 0) return;
            byte_count -= received < byte_count ? received : byte_count;
        }
    }

private:
    kevring::fd near_;
    kevring::fd far_;
};
