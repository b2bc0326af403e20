// fetch.cpp: sends one line to each address, with at most N connections at a time, and prints the bytes
// of each answer. Try: build/examples/fetch --at-most 4 127.0.0.1:7000 127.0.0.1:7001
#include <kevring/kevring.hpp>

#include <CLI/CLI.hpp>

#include <chrono>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

namespace {

kevring::task<kevring::result<std::size_t>> fetch_one(kevring::ring& loop, kevring::endpoint peer) {
    const auto limit = co_await kevring::within(std::chrono::seconds(10));
    auto connection = co_await kevring::connect(loop, peer);
    if (!connection) co_return tl::unexpected<std::error_code>(connection.error());
    const auto sent = co_await connection->send("fetch\n");
    if (!sent) co_return tl::unexpected<std::error_code>(sent.error());
    std::size_t byte_count = 0;
    while (true) {
        const auto received = co_await connection->receive();
        if (!received) co_return tl::unexpected<std::error_code>(received.error());
        if (received->empty()) co_return byte_count;
        byte_count += received->size();
    }
}

kevring::task<void> report(kevring::ring& loop, std::string address, kevring::endpoint peer) {
    const auto byte_count = co_await fetch_one(loop, peer);
    if (byte_count)
        std::printf("%s: %zu bytes\n", address.c_str(), *byte_count);
    else
        std::printf("%s: %s\n", address.c_str(), byte_count.error().message().c_str());
}

kevring::task<void> fetch_all(std::vector<std::string> addresses, std::size_t count_max) {
    kevring::ring& loop = *kevring::ring::current();
    kevring::limited_task_scope fetches(loop, count_max);
    for (const std::string& address : addresses) {
        const auto peer =
            kevring::value_or_throw(kevring::endpoint::parse(address), address.c_str());
        const auto spawned = co_await fetches.spawn(report(loop, address, peer));
        if (!spawned) break;
    }
    co_await fetches.join();
}

}  // namespace

int main(int argc, char** argv) try {
    CLI::App options("Fetches from many addresses, with a bound.");
    std::vector<std::string> addresses;
    std::size_t count_max = 4;
    options.add_option("--at-most", count_max, "connections at a time")->capture_default_str();
    options.add_option("address", addresses, "HOST:PORT or unix:PATH")->required();
    CLI11_PARSE(options, argc, argv);

    for (const std::string& each : addresses)  // first: a wrong one starts nothing
        kevring::value_or_throw(kevring::endpoint::parse(each), each.c_str());
    kevring::run(fetch_all(addresses, count_max));
} catch (const std::exception& failure) {
    std::fprintf(stderr, "fetch: %s\n", failure.what());
    return 1;
}
