// tls_pair.hpp: a certificate for tests, and two TLS streams that are connected by a socket pair.
#pragma once

#include "tests/support/catch.hpp"
#include "tests/support/received.hpp"
#include "tests/support/socket_pair.hpp"
#include "tests/support/tls_authority.hpp"

#include <kevring/net/tls_context.hpp>
#include <kevring/net/tls_stream.hpp>
#include <kevring/runtime/task_scope.hpp>
#include <kevring/runtime/when.hpp>

#include <cstddef>
#include <string>
#include <utility>

#include <unistd.h>

// One for all tests: a key and its signature cost milliseconds, with a sanitizer more.
inline tls_authority& authority() {
    static tls_authority only;
    return only;
}

inline const tls_authority::certificate& certificate() {
    static const tls_authority::certificate only =
        authority().issue("server", "DNS:localhost,DNS:*.wild.test,IP:127.0.0.1");
    return only;
}

inline kevring::tls_server_options server_options() {
    kevring::tls_server_options options;
    options.certificate_file = certificate().chain_file;
    options.key_file = certificate().key_file;
    return options;
}

inline kevring::tls_client_options client_options() {
    kevring::tls_client_options options;
    options.authority_file = authority().authority_file();
    return options;
}

inline kevring::tls_context server_context() {
    return kevring::tls_context::server(server_options()).value();
}
inline kevring::tls_context client_context() {
    return kevring::tls_context::client(client_options()).value();
}

inline kevring::fd copy_of(kevring::fd_ref descriptor) {
    return kevring::fd(::dup(descriptor.number()));
}

// The sockets of a pair; closing one of them is the end of the connection for the other.
struct two_sockets {
    explicit two_sockets(kevring::ring& loop, socket_pair&& pair = socket_pair())
        : first(loop, copy_of(pair.local())), second(loop, copy_of(pair.peer())) {
        pair.close_local();
        pair.close_peer();
    }
    kevring::socket first;
    kevring::socket second;
};

struct two_streams {
    kevring::result<kevring::tls_stream> client;
    kevring::result<kevring::tls_stream> server;
};

inline kevring::task<two_streams> handshake(two_sockets sockets, kevring::tls_context client,
                                            kevring::tls_context server,
                                            std::string host = "localhost") {
    auto [connected, accepted] = co_await kevring::when_all(
        kevring::tls_stream::connect(std::move(sockets.first), std::move(client), std::move(host)),
        kevring::tls_stream::accept(std::move(sockets.second), std::move(server)));
    co_return two_streams{std::move(connected), std::move(accepted)};
}

inline kevring::task<two_streams> connected_streams(kevring::ring& loop) {
    two_streams made = co_await handshake(two_sockets(loop), client_context(), server_context());
    REQUIRE(made.client.has_value());
    REQUIRE(made.server.has_value());
    co_return made;
}

template <class Stream>
kevring::task<std::string> receive_bytes(Stream& stream, std::size_t byte_count) {
    std::string all;
    while (all.size() < byte_count) {
        const auto received = co_await stream.receive();
        if (!received || received->empty()) break;
        all += text_of(*received);
    }
    co_return all;
}

// The bytes of a client's first message.
inline kevring::task<std::string> first_message(kevring::ring& loop) {
    two_sockets sockets(loop);
    kevring::task_scope tasks(loop);
    auto connect = [&sockets]() -> kevring::task<void> {
        const auto none = co_await kevring::tls_stream::connect(std::move(sockets.first),
                                                                client_context(), "localhost");
        static_cast<void>(none);
    };
    tasks.spawn(connect());
    auto received = co_await sockets.second.receive();
    REQUIRE(received.has_value());
    std::string text = text_of(*received);
    received->reset();
    tasks.request_stop();
    co_await tasks.join();
    co_return text;
}

// Accepts the local end of a pair. `error` is that of the handshake.
inline kevring::task<void> accept_local(kevring::ring& loop, socket_pair& pair,
                                        kevring::tls_context context, std::error_code& error) {
    kevring::socket accepted(loop, copy_of(pair.local()));
    pair.close_local();
    const auto server =
        co_await kevring::tls_stream::accept(std::move(accepted), std::move(context));
    if (!server) error = server.error();
}
