// tls_fetch.cpp: fetches a page over https and prints it. Try: build/examples/tls_fetch --ca authority.pem
// 127.0.0.1:8443 localhost /index.html
#include <kevring/kevring.hpp>

#include <CLI/CLI.hpp>

#include <chrono>
#include <cstdio>
#include <exception>
#include <string>
#include <utility>

namespace {

kevring::task<std::string> fetch(kevring::endpoint peer, kevring::tls_context context,
                                 std::string host, std::string path) {
    const auto limit = co_await kevring::within(std::chrono::seconds(30));
    auto dialled = co_await kevring::connect(*kevring::ring::current(), peer);
    kevring::socket connected = kevring::value_or_throw(std::move(dialled), "connect");
    auto secured =
        co_await kevring::tls_stream::connect(std::move(connected), std::move(context), host);
    kevring::tls_stream server = kevring::value_or_throw(std::move(secured), "handshake");
    std::fprintf(stderr, "%s %s %s%s\n", std::string(server.version()).c_str(),
                 std::string(server.cipher()).c_str(), std::string(server.protocol()).c_str(),
                 server.resumed() ? " resumed" : "");
    const std::string request =
        "GET " + path + " HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n\r\n";
    auto sent = co_await server.send(request);
    kevring::value_or_throw(kevring::result<std::size_t>(std::move(sent)), "send");
    std::string response;
    while (true) {
        auto received = co_await server.receive();
        // The end of the response is the end of the connection: an error if it was cut.
        const auto buffer = kevring::value_or_throw(std::move(received), "receive");
        if (buffer.empty()) break;
        response.append(reinterpret_cast<const char*>(buffer.data()), buffer.size());
    }
    co_await server.close();
    co_return response;
}

}  // namespace

int main(int argc, char** argv) try {
    CLI::App options("Fetches a page over https and prints the response.");
    kevring::tls_client_options trust;
    std::string address;
    std::string host;
    std::string path = "/";
    unsigned fetch_count = 1;
    bool insecure = false;
    options.add_option("--ca", trust.authority_file, "PEM file of trusted authorities");
    options.add_flag("--insecure", insecure, "do not verify the server");
    options.add_option("--count", fetch_count, "how often, each on a connection of its own");
    options.add_option("address", address, "HOST:PORT or unix:PATH")->required();
    options.add_option("host", host, "the name that the certificate must have")->required();
    options.add_option("path", path, "the path of the page")->capture_default_str();
    CLI11_PARSE(options, argc, argv);

    trust.verify_peer = !insecure;
    trust.protocols = {"http/1.1"};
    const auto peer = kevring::value_or_throw(kevring::endpoint::parse(address), address.c_str());
    const auto context =
        kevring::value_or_throw(kevring::tls_context::client(trust), "trusted authorities");
    kevring::ring loop;
    std::string response;
    for (unsigned i = 0; i < fetch_count; ++i)
        response = kevring::run(loop, fetch(peer, context, host, path));
    std::fwrite(response.data(), 1, response.size(), stdout);
} catch (const std::exception& failure) {
    std::fprintf(stderr, "tls_fetch: %s\n", failure.what());
    return 1;
}
