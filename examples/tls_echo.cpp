// tls_echo.cpp: sends received bytes back, over TLS. Try: build/examples/tls_echo --cert chain.pem --key key.pem
// & openssl s_client -connect 127.0.0.1:7443
#include <kevring/kevring.hpp>

#include <CLI/CLI.hpp>

#include <cstdio>
#include <exception>
#include <string>
#include <utility>

namespace {

kevring::task<void> echo(kevring::socket accepted, kevring::tls_context context) {
    auto client = co_await kevring::tls_stream::accept(std::move(accepted), std::move(context));
    if (!client) {
        std::fprintf(stderr, "tls_echo: handshake: %s\n", client.error().message().c_str());
        co_return;
    }
    while (true) {
        const auto received = co_await client->receive();
        if (!received) {  // without a close_notify bytes may be missing
            std::fprintf(stderr, "tls_echo: receive: %s\n", received.error().message().c_str());
            co_return;
        }
        if (received->empty()) break;
        if (const auto sent = co_await client->send(received->bytes()); !sent) co_return;
    }
    co_await client->close();
}

kevring::task<void> serve(kevring::endpoint local, kevring::tls_context context) {
    auto bound = kevring::listener::bind(local, {.reuse_port = true});
    auto listener = kevring::value_or_throw(std::move(bound), "listen");
    const auto address = kevring::value_or_throw(listener.local(), "getsockname");
    std::printf("listening on %s\n", address.to_string().c_str());
    std::fflush(stdout);
    auto accept_all = [&](kevring::supervisor_scope& clients) -> kevring::task<void> {
        while (true) {
            auto client = co_await listener.accept();
            if (!client) co_return;
            clients.spawn(echo(std::move(*client), context));
        }
    };
    co_await kevring::in_scope(accept_all);
}

}  // namespace

int main(int argc, char** argv) try {
    CLI::App options("Sends received bytes back, over TLS.");
    std::string address = "127.0.0.1:7443";
    unsigned thread_count = 1;
    kevring::tls_server_options server;
    options.add_option("--listen", address, "HOST:PORT or unix:PATH")->capture_default_str();
    options.add_option("--threads", thread_count, "number of loops, one per thread")
        ->capture_default_str();
    options.add_option("--cert", server.certificate_file, "PEM file of the certificate chain")
        ->required();
    options.add_option("--key", server.key_file, "PEM file of the key")->required();
    options.add_option("--protocol", server.protocols, "ALPN protocol; may be repeated");
    CLI11_PARSE(options, argc, argv);

    const auto local = kevring::value_or_throw(kevring::endpoint::parse(address), address.c_str());
    // The threads share one context: sessions that one of them began are resumed by all.
    const auto context =
        kevring::value_or_throw(kevring::tls_context::server(server), "certificate and key");
    kevring::run(thread_count, [&](unsigned) { return serve(local, context); });
} catch (const std::exception& failure) {
    std::fprintf(stderr, "tls_echo: %s\n", failure.what());
    return 1;
}
