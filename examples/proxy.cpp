// proxy.cpp: passes connections on to another server, with half-close and a limit for connecting. The
// server may be a name: its addresses are resolved without blocking the other connections, and tried
// in turn. Try: build/examples/proxy --to example.org:80 & nc 127.0.0.1 7000
#include <kevring/kevring.hpp>

#include <CLI/CLI.hpp>

#include <chrono>
#include <cstdio>
#include <exception>
#include <string>
#include <system_error>

namespace {

kevring::task<void> pass_on(kevring::socket client, const std::string& target,
                            std::chrono::milliseconds limit) {
    kevring::ring& loop = client.loop();
    auto server = co_await kevring::with_timeout(kevring::connect(loop, target), limit);
    if (!server) {
        const std::string text = "proxy: " + server.describe() + '\n';
        static_cast<void>(co_await client.send(text));
        co_await client.close();
        co_return;
    }
    const auto copied = co_await kevring::copy_both(client, *server);
    if (copied.error) co_return;  // the destructors close both
    co_await server->close_without_lingering();
    co_await client.close_without_lingering();
}

// A wrong --to must end the program at its start, not fail each connection. A host name and the name of
// a service are resolved for each of them.
void check_target(const std::string& target) {
    const auto address = kevring::endpoint::parse(target);
    if (address || address.error() == kevring::endpoint_errc::host_name) return;
    const std::string service = target.substr(target.rfind(':') + 1);
    const bool is_name = service.find_first_not_of("0123456789") != std::string::npos;
    if (address.error() == kevring::endpoint_errc::bad_port && is_name) return;
    throw std::system_error(address.error(), "--to " + target);
}

kevring::task<void> serve(kevring::endpoint local, std::string target,
                          std::chrono::milliseconds limit) {
    auto listener = kevring::value_or_throw(kevring::listener::bind(local), "listen");
    auto accept_all = [&](kevring::supervisor_scope& clients) -> kevring::task<void> {
        while (true) {
            auto client = co_await listener.accept();
            if (!client) co_return;
            clients.spawn(pass_on(std::move(*client), target, limit), "client");
        }
    };
    co_await kevring::in_scope(accept_all);
}

}  // namespace

int main(int argc, char** argv) try {
    CLI::App options("Passes connections on to another server.");
    std::string address = "127.0.0.1:7000";
    std::string target;
    int limit_ms = 3000;
    options.add_option("--listen", address, "HOST:PORT or unix:PATH")->capture_default_str();
    options.add_option("--to", target, "HOST:PORT or unix:PATH of the server")->required();
    options.add_option("--connect-ms", limit_ms, "limit for connecting, in milliseconds")
        ->capture_default_str();
    CLI11_PARSE(options, argc, argv);

    check_target(target);
    const auto local = kevring::value_or_throw(kevring::endpoint::parse(address), address.c_str());
    kevring::run(serve(local, target, std::chrono::milliseconds(limit_ms)));
} catch (const std::exception& failure) {
    std::fprintf(stderr, "proxy: %s\n", failure.what());
    return 1;
}
