// bench/examples/asio/compute.cpp: examples/compute.cpp in Asio.
#include "bench/examples/asio/address.hpp"

#include <asio.hpp>

#include <CLI/CLI.hpp>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <utility>
#include <vector>

namespace {

using asio::awaitable;
using asio::redirect_error;
using asio::use_awaitable;
using asio::ip::tcp;

constexpr std::uint64_t bound_max = 10'000'000;

std::uint64_t count_primes(std::uint64_t bound) {
    std::vector<bool> composite(bound + 1, false);
    std::uint64_t count = 0;
    for (std::uint64_t i = 2; i < bound; ++i) {
        if (composite[i]) continue;
        ++count;
        for (std::uint64_t k = i * i; k < bound; k += i) composite[k] = true;
    }
    return count;
}

awaitable<std::uint64_t> count_on_pool(std::uint64_t bound) { co_return count_primes(bound); }

awaitable<void> answer(tcp::socket client, asio::thread_pool& pool) {
    asio::error_code error;
    std::string received;
    while (true) {
        const std::size_t line_bytes = co_await asio::async_read_until(
            client, asio::dynamic_buffer(received, 32), '\n', redirect_error(use_awaitable, error));
        if (error) co_return;
        const std::uint64_t bound =
            std::min<std::uint64_t>(std::strtoull(received.c_str(), nullptr, 10), bound_max);
        received.erase(0, line_bytes);
        const std::uint64_t count =
            co_await asio::co_spawn(pool, count_on_pool(bound), use_awaitable);
        const std::string text = std::to_string(count) + '\n';
        co_await asio::async_write(client, asio::buffer(text),
                                   redirect_error(use_awaitable, error));
        if (error) co_return;
    }
}

awaitable<void> serve(tcp::endpoint local, asio::thread_pool& pool) {
    const auto executor = co_await asio::this_coro::executor;
    tcp::acceptor acceptor(executor, local);
    while (true) {
        tcp::socket client = co_await acceptor.async_accept(use_awaitable);
        asio::co_spawn(executor, answer(std::move(client), pool), [](std::exception_ptr failure) {
            try {
                if (failure) std::rethrow_exception(failure);
            } catch (const std::exception& each) {
                std::fprintf(stderr, "compute: %s\n", each.what());
            }
        });
    }
}

}  // namespace

int main(int argc, char** argv) try {
    CLI::App options("Counts primes off the loop.");
    std::string address = "127.0.0.1:7000";
    std::size_t thread_count = 2;
    options.add_option("--listen", address, "HOST:PORT")->capture_default_str();
    options.add_option("--pool", thread_count, "threads that compute")->capture_default_str();
    CLI11_PARSE(options, argc, argv);

    asio::io_context context(1);
    asio::thread_pool pool(thread_count);
    asio::co_spawn(context, serve(parse_address(address), pool), [](std::exception_ptr failure) {
        if (failure) std::rethrow_exception(failure);
    });
    context.run();
} catch (const std::exception& failure) {
    std::fprintf(stderr, "compute: %s\n", failure.what());
    return 1;
}
