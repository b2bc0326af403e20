// generators.hpp: connections and received bytes as streams of items.
#pragma once

#include <kevring/net/listener.hpp>
#include <kevring/net/socket.hpp>
#include <kevring/runtime/async_generator.hpp>
#include <kevring/runtime/buffer_pool.hpp>
#include <kevring/runtime/operation.hpp>

#include <system_error>
#include <utility>

namespace kevring {

/// The connections of a listener, one after the other.
///
///     std::error_code failure;
///     auto connections = accepted_connections(listening, failure);
///     while (true) {
///         auto client = co_await connections.next();
///         if (!client) break;  // failure says why
///         clients.spawn(serve(std::move(*client)));
///     }
///
/// Result     Ends with the first error of accept(), which is stored in `failure`. A new generator
///            continues: no connection is lost.
/// Lifetime   `source` and `failure` outlive the generator.
/// Thread     The loop's thread.
/// In flight  As listener::accept().
inline async_generator<socket> accepted_connections(listener& source, std::error_code& failure) {
    while (true) {
        auto accepted = co_await source.accept();
        if (!accepted) {
            failure = accepted.error();
            co_return;
        }
        co_yield std::move(*accepted);
    }
}

/// The bytes that a socket receives, in buffers of its pool.
///
/// Result     Ends with the stream of the peer, and then `failure` is empty, or with the first error of
///            receive(). A new generator continues after a stop or deadline: no byte is lost.
/// Lifetime   `source` and `failure` outlive the generator.
/// Thread     The loop's thread.
/// In flight  As socket::receive().
inline async_generator<borrowed_buffer> received_buffers(socket& source, std::error_code& failure) {
    while (true) {
        auto received = co_await source.receive();
        if (!received) failure = received.error();
        if (!received || received->empty()) co_return;
        co_yield std::move(*received);
    }
}

}  // namespace kevring
