// received.hpp: received bytes as text.
#pragma once

#include <kevring/runtime/buffer_pool.hpp>
#include <kevring/runtime/operations/receive.hpp>
#include <kevring/runtime/task.hpp>

#include <string>

inline std::string text_of(const kevring::borrowed_buffer& buffer) {
    return {reinterpret_cast<const char*>(buffer.data()), buffer.size()};
}

/// Receives until the peer closes its sending side, or a receive fails.
inline kevring::task<std::string> all_of(kevring::receive_stream& stream) {
    std::string all;
    while (true) {
        const auto received = co_await stream.next();
        if (!received || received->empty()) break;
        all += text_of(*received);
    }
    co_return all;
}
