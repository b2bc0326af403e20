// echo.cpp: sends back what it receives. Try: build/examples/echo & nc 127.0.0.1 7000
#include <kevring/kevring.hpp>

#include <CLI/CLI.hpp>

kevring::task<void> echo(kevring::socket client) {
    while (true) {
        const auto got = co_await client.receive();
        if (!got || got->empty()) co_return;  // the peer has gone, or has said all
        if (const auto sent = co_await client.send(got->bytes()); !sent) co_return;
    }
}

kevring::task<void> serve(kevring::endpoint where) {
    auto listening = kevring::listener::bind(where, {.reuse_port = true});
    auto doors = kevring::value_or_throw(std::move(listening), "listen");
    auto accept_all = [&](kevring::supervisor_scope& clients) -> kevring::task<void> {
        while (true) {
            auto client = co_await doors.accept();
            if (!client) co_return;
            clients.spawn(echo(std::move(*client)));
        }
    };
    co_await kevring::in_scope(accept_all);
}

int main(int argc, char** argv) try {
    CLI::App options("Sends back what it receives.");
    std::string address = "127.0.0.1:7000";
    unsigned thread_count = 1;
    options.add_option("--listen", address, "HOST:PORT or unix:PATH")->capture_default_str();
    options.add_option("--threads", thread_count, "one loop on each")->capture_default_str();
    CLI11_PARSE(options, argc, argv);

    const auto where = kevring::value_or_throw(kevring::endpoint::parse(address), address.c_str());
    kevring::run(thread_count, [&](unsigned) { return serve(where); });
} catch (const std::exception& failure) {
    std::fprintf(stderr, "echo: %s\n", failure.what());
    return 1;
}
