// drain.hpp: a connection whose peer discards the bytes that it receives.
#pragma once

#include "tests/support/loopback_listener.hpp"

#include <kevring/runtime/fd.hpp>

#include <thread>
#include <utility>

#include <sys/socket.h>

/// Thread     One of its own receives; near() is for any other.
class drain {
public:
    explicit drain(const char* congestion_control) {
        auto [peer, local] = loopback_listener(congestion_control).connect(SOCK_NONBLOCK);
        peer_ = std::move(peer);
        local_ = std::move(local);
        reader_ = std::thread([this] {
            while (::recv(peer_.number(), nullptr, 1 << 20, MSG_TRUNC) > 0) {}
        });
    }
    drain(const drain&) = delete;
    drain& operator=(const drain&) = delete;
    ~drain() {
        ::shutdown(local_.number(), SHUT_RDWR);
        reader_.join();
    }
    kevring::fd_ref local() const { return local_; }

private:
    kevring::fd local_;
    kevring::fd peer_;
    std::thread reader_;
};
