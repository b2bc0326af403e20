// bench/support/echo_asio.cpp: the echo server as Asio coroutines, the well-known baseline.
//
// Standalone Asio on its default back end (epoll), with the concurrency hint for one thread: each
// thread has its own context.
#include "bench/support/baseline.hpp"

#include <array>
#include <asio.hpp>
#include <exception>
#include <utility>

namespace {

using asio::ip::tcp;

asio::awaitable<void> echo(tcp::socket socket) {
    try {
        std::array<char, 4096> bytes;
        for (;;) {
            const std::size_t count =
                co_await socket.async_read_some(asio::buffer(bytes), asio::use_awaitable);
            co_await asio::async_write(socket, asio::buffer(bytes, count), asio::use_awaitable);
        }
    } catch (const std::exception&) {
        // The peer closed or was reset: the end of the connection, and nothing else.
    }
}

asio::awaitable<void> serve(tcp::acceptor acceptor) {
    const auto executor = acceptor.get_executor();
    for (;;) {
        tcp::socket socket = co_await acceptor.async_accept(asio::use_awaitable);
        asio::co_spawn(executor, echo(std::move(socket)), asio::detached);
    }
}

}  // namespace

int main(int argc, char** argv) {
    const auto options = kevring::bench::parse_baseline_options(argc, argv);
    kevring::bench::baseline_serve(options, [](int listener) {
        asio::io_context context(1);
        tcp::acceptor acceptor(context, tcp::v4(), listener);
        asio::co_spawn(context, serve(std::move(acceptor)), asio::detached);
        context.run();
    });
}
