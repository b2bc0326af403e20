// echo.cpp: sends received bytes back. Try: build/examples/echo & nc 127.0.0.1 7000
#include <kevring/kevring.hpp>

#include <CLI/CLI.hpp>

kevring::task<void> echo(kevring::socket client) {
    while (true) {
        const auto received = co_await client.receive();
        if (!received || received->empty()) co_return;  // an error, or the peer has closed
        if (const auto sent = co_await client.send(received->bytes()); !sent) co_return;
    }
}

kevring::task<void> serve(kevring::endpoint local) {
    auto bound = kevring::listener::bind(local, {.reuse_port = true});
    auto listener = kevring::value_or_throw(std::move(bound), "listen");
    auto accept_all = [&](kevring::supervisor_scope& clients) -> kevring::task<void> {
        while (true) {
            auto client = co_await listener.accept();
            if (!client) co_return;
            clients.spawn(echo(std::move(*client)));
        }
    };
    co_await kevring::in_scope(accept_all);
}

int main(int argc, char** argv) try {
    CLI::App options("Sends received bytes back.");
    std::string address = "127.0.0.1:7000";
    unsigned thread_count = 1;
    options.add_option("--listen", address, "HOST:PORT or unix:PATH")->capture_default_str();
    options.add_option("--threads", thread_count, "number of loops, one per thread")
        ->capture_default_str();
    CLI11_PARSE(options, argc, argv);

    const auto local = kevring::value_or_throw(kevring::endpoint::parse(address), address.c_str());
    kevring::run(thread_count, [&](unsigned) { return serve(local); });
} catch (const std::exception& failure) {
    std::fprintf(stderr, "echo: %s\n", failure.what());
    return 1;
}
