// received.hpp: what has been received, as text.
#pragma once

#include <kevring/runtime/buffer_pool.hpp>
#include <kevring/runtime/operations/receive.hpp>
#include <kevring/runtime/task.hpp>

#include <string>

inline std::string text_of(const kevring::borrowed_buffer& buffer) {
    return {reinterpret_cast<const char*>(buffer.data()), buffer.size()};
}

/// Until the peer has ended, or a receive fails.
inline kevring::task<std::string> all_of(kevring::receive_stream& stream) {
    std::string all;
    while (true) {
        const auto got = co_await stream.next();
        if (!got || got->empty()) break;
        all += text_of(*got);
    }
    co_return all;
}
