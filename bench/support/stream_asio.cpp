// bench/support/stream_asio.cpp: streams as Asio coroutines, the well-known baseline: echo, sink,
// source and proxy.
//
// Standalone Asio, with the concurrency hint for one thread: each thread has its own context. It is
// built twice, for epoll (Asio's default) and for io_uring. Each direction has a buffer of its own.
#include "bench/support/baseline.hpp"

#include <asio.hpp>
#include <exception>
#include <memory>
#include <utility>
#include <vector>

namespace {

using asio::ip::tcp;
using kevring::bench::baseline_options;
using kevring::bench::stream_work;

using shared_socket = std::shared_ptr<tcp::socket>;

asio::awaitable<void> pass_on(shared_socket source, shared_socket target, unsigned buffer_bytes) {
    try {
        std::vector<char> bytes(buffer_bytes);
        for (;;) {
            asio::error_code failure;
            const std::size_t count = co_await source->async_read_some(
                asio::buffer(bytes), asio::redirect_error(asio::use_awaitable, failure));
            if (failure) break;
            co_await asio::async_write(*target, asio::buffer(bytes, count), asio::use_awaitable);
        }
        target->shutdown(tcp::socket::shutdown_send);
    } catch (const std::exception&) {
        // The peer closed or was reset: the end of the connection, and nothing else.
        asio::error_code ignored;
        source->close(ignored);
        target->close(ignored);
    }
}

asio::awaitable<void> consume(tcp::socket socket, unsigned buffer_bytes) {
    try {
        std::vector<char> bytes(buffer_bytes);
        for (;;) co_await socket.async_read_some(asio::buffer(bytes), asio::use_awaitable);
    } catch (const std::exception&) {}
}

asio::awaitable<void> produce(tcp::socket socket, const std::vector<char>& bytes) {
    try {
        for (;;) co_await asio::async_write(socket, asio::buffer(bytes), asio::use_awaitable);
    } catch (const std::exception&) {}
}

asio::awaitable<void> serve(tcp::acceptor acceptor, const baseline_options& options) {
    const auto executor = acceptor.get_executor();
    const std::vector<char> message(options.message_bytes, 's');  // the same for all connections
    for (;;) {
        tcp::socket socket = co_await acceptor.async_accept(asio::use_awaitable);
        if (options.work == stream_work::sink) {
            asio::co_spawn(executor, consume(std::move(socket), options.buffer_bytes),
                           asio::detached);
        } else if (options.work == stream_work::source) {
            asio::co_spawn(executor, produce(std::move(socket), message), asio::detached);
        } else {
            const auto client = std::make_shared<tcp::socket>(std::move(socket));
            auto other = client;
            if (options.work == stream_work::proxy) {
                const int connected = kevring::bench::baseline_connect(options);
                if (connected < 0) continue;
                other = std::make_shared<tcp::socket>(executor, tcp::v4(), connected);
                asio::co_spawn(executor, pass_on(other, client, options.buffer_bytes),
                               asio::detached);
            }
            asio::co_spawn(executor, pass_on(client, other, options.buffer_bytes), asio::detached);
        }
    }
}

}  // namespace

int main(int argc, char** argv) {
    const auto options = kevring::bench::parse_baseline_options(argc, argv);
    kevring::bench::baseline_serve(options, [&options](int listener) {
        asio::io_context context(1);
        tcp::acceptor acceptor(context, tcp::v4(), listener);
        asio::co_spawn(context, serve(std::move(acceptor), options), asio::detached);
        context.run();
    });
}
