// bench/examples/asio/fetch.cpp: examples/fetch.cpp in Asio.
#include "bench/examples/asio/address.hpp"

#include <asio.hpp>

#include <CLI/CLI.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <exception>
#include <string>
#include <system_error>
#include <vector>

namespace {

using asio::awaitable;
using asio::redirect_error;
using asio::use_awaitable;
using asio::ip::tcp;

awaitable<std::size_t> fetch_one(tcp::endpoint peer) {
    tcp::socket connection(co_await asio::this_coro::executor);
    asio::steady_timer limit(connection.get_executor(), std::chrono::seconds(10));
    bool timed_out = false;
    limit.async_wait([&](const asio::error_code& stopped) {
        if (stopped) return;
        timed_out = true;
        connection.cancel();
    });
    std::size_t byte_count = 0;
    asio::error_code error;
    co_await connection.async_connect(peer, redirect_error(use_awaitable, error));
    if (!error)
        co_await asio::async_write(connection, asio::buffer("fetch\n", 6),
                                   redirect_error(use_awaitable, error));
    std::array<char, 65536> buffer;
    while (!error)
        byte_count += co_await connection.async_read_some(asio::buffer(buffer),
                                                          redirect_error(use_awaitable, error));
    if (timed_out) error = asio::error::timed_out;
    if (error != asio::error::eof) throw std::system_error(error);
    co_return byte_count;
}

awaitable<void> fetch_next(const std::vector<std::string>& addresses, std::size_t& next) {
    while (next < addresses.size()) {
        const std::string& address = addresses[next++];
        try {
            const std::size_t byte_count = co_await fetch_one(parse_address(address));
            std::printf("%s: %zu bytes\n", address.c_str(), byte_count);
        } catch (const std::system_error& failure) {
            std::printf("%s: %s\n", address.c_str(), failure.code().message().c_str());
        }
    }
}

}  // namespace

int main(int argc, char** argv) try {
    CLI::App options("Fetches from many addresses, with a bound.");
    std::vector<std::string> addresses;
    std::size_t count_max = 4;
    options.add_option("--at-most", count_max, "connections at a time")->capture_default_str();
    options.add_option("address", addresses, "HOST:PORT")->required();
    CLI11_PARSE(options, argc, argv);

    for (const std::string& each : addresses) parse_address(each);  // a wrong one starts nothing
    asio::io_context context(1);
    std::size_t next = 0;
    for (std::size_t count = 0; count < std::min(count_max, addresses.size()); ++count)
        asio::co_spawn(context, fetch_next(addresses, next), [](std::exception_ptr failure) {
            if (failure) std::rethrow_exception(failure);
        });
    context.run();
} catch (const std::exception& failure) {
    std::fprintf(stderr, "fetch: %s\n", failure.what());
    return 1;
}
