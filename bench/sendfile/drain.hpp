// drain.hpp: a connection whose peer discards the bytes that it receives.
#pragma once

#include "tests/support/loopback_door.hpp"

#include <kevring/runtime/fd.hpp>

#include <thread>
#include <utility>

#include <sys/socket.h>

/// Thread     One of its own receives; near() is for any other.
class drain {
public:
    explicit drain(const char* congestion_control) {
        auto [far, near] = loopback_door(congestion_control).connect(SOCK_NONBLOCK);
        far_ = std::move(far);
        near_ = std::move(near);
        reader_ = std::thread([this] {
            while (::recv(far_.number(), nullptr, 1 << 20, MSG_TRUNC) > 0) {}
        });
    }
    drain(const drain&) = delete;
    drain& operator=(const drain&) = delete;
    ~drain() {
        ::shutdown(near_.number(), SHUT_RDWR);
        reader_.join();
    }
    kevring::fd_ref near() const { return near_; }

private:
    kevring::fd near_;
    kevring::fd far_;
    std::thread reader_;
};
