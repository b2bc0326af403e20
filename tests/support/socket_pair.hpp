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
        local_.reset(made[0]);
        peer_.reset(made[1]);
    }

    kevring::fd_ref local() const noexcept { return local_; }
    kevring::fd_ref peer() const noexcept { return peer_; }
    void close_local() noexcept { local_.reset(); }
    void close_peer() noexcept { peer_.reset(); }

    void send_from_peer(std::string_view text) const {
        if (::send(peer_.number(), text.data(), text.size(), MSG_NOSIGNAL) !=
            static_cast<ssize_t>(text.size()))
            throw std::system_error(errno, std::system_category(), "send");
    }
    // Receives the bytes that are available at the peer, without waiting.
    std::string receive_at_peer() const {
        std::string text(1 << 16, '\0');
        const ssize_t count = ::recv(peer_.number(), text.data(), text.size(), MSG_DONTWAIT);
        text.resize(count < 0 ? 0 : static_cast<std::size_t>(count));
        return text;
    }
    // Fills the buffers in the direction to the peer, so that the next send must wait.
    std::size_t fill() const {
        const std::string block(4096, 'f');
        std::size_t byte_count = 0;
        ssize_t count = 0;
        while ((count = ::send(local_.number(), block.data(), block.size(), MSG_DONTWAIT)) > 0)
            byte_count += static_cast<std::size_t>(count);
        return byte_count;
    }
    void drain_peer(std::size_t byte_count) const {
        while (byte_count > 0) {
            const std::size_t received = receive_at_peer().size();
            if (received == 0) return;
            byte_count -= received < byte_count ? received : byte_count;
        }
    }

private:
    kevring::fd local_;
    kevring::fd peer_;
};
