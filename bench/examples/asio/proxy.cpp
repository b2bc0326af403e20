// bench/examples/asio/proxy.cpp: examples/proxy.cpp in Asio.
#include "bench/examples/asio/address.hpp"

#include <asio.hpp>
#include <asio/experimental/awaitable_operators.hpp>

#include <CLI/CLI.hpp>

#include <array>
#include <chrono>
#include <cstdio>
#include <exception>
#include <string>
#include <utility>

namespace {

using asio::awaitable;
using asio::redirect_error;
using asio::use_awaitable;
using asio::ip::tcp;
using namespace asio::experimental::awaitable_operators;

awaitable<void> copy(tcp::socket& source, tcp::socket& target) {
    std::array<char, 65536> buffer;
    asio::error_code error;
    while (true) {
        const std::size_t count = co_await source.async_read_some(
            asio::buffer(buffer), redirect_error(use_awaitable, error));
        if (error == asio::error::eof) break;
        if (error) throw std::system_error(error);
        co_await asio::async_write(target, asio::buffer(buffer, count), use_awaitable);
    }
    target.shutdown(tcp::socket::shutdown_send, error);
}

awaitable<void> pass_on(tcp::socket client, tcp::endpoint target, std::chrono::milliseconds limit) {
    tcp::socket server(client.get_executor());
    asio::steady_timer timer(client.get_executor(), limit);
    bool timed_out = false;
    timer.async_wait([&](const asio::error_code& stopped) {
        if (stopped) return;
        timed_out = true;
        server.cancel();
    });
    asio::error_code error;
    co_await server.async_connect(target, redirect_error(use_awaitable, error));
    timer.cancel();
    if (error) {
        const std::string text = "proxy: " + (timed_out ? "timed out" : error.message()) + '\n';
        co_await asio::async_write(client, asio::buffer(text), use_awaitable);
        co_return;
    }
    co_await (copy(client, server) && copy(server, client));
}

awaitable<void> serve(tcp::endpoint local, tcp::endpoint target, std::chrono::milliseconds limit) {
    const auto executor = co_await asio::this_coro::executor;
    tcp::acceptor acceptor(executor, local);
    while (true) {
        tcp::socket client = co_await acceptor.async_accept(use_awaitable);
        asio::co_spawn(executor, pass_on(std::move(client), target, limit),
                       [](std::exception_ptr failure) {
                           try {
                               if (failure) std::rethrow_exception(failure);
                           } catch (const std::exception& each) {
                               std::fprintf(stderr, "proxy: %s\n", each.what());
                           }
                       });
    }
}

}  // namespace

int main(int argc, char** argv) try {
    CLI::App options("Passes connections on to another server.");
    std::string address = "127.0.0.1:7000";
    std::string target_address;
    int limit_ms = 3000;
    options.add_option("--listen", address, "HOST:PORT")->capture_default_str();
    options.add_option("--to", target_address, "HOST:PORT of the server")->required();
    options.add_option("--connect-ms", limit_ms, "limit for connecting, in milliseconds")
        ->capture_default_str();
    CLI11_PARSE(options, argc, argv);

    asio::io_context context(1);
    asio::co_spawn(context,
                   serve(parse_address(address), parse_address(target_address),
                         std::chrono::milliseconds(limit_ms)),
                   [](std::exception_ptr failure) {
                       if (failure) std::rethrow_exception(failure);
                   });
    context.run();
} catch (const std::exception& failure) {
    std::fprintf(stderr, "proxy: %s\n", failure.what());
    return 1;
}
