// asio_inside.cpp: a task of this library that uses objects of Asio: a resolver and a timer run on the ring.
// Prints the addresses of a host, or an error after the limit. Try: build/examples/asio_inside localhost
#include <kevring/kevring.hpp>
#include <kevring/net/asio/from_asio.hpp>
#include <kevring/net/asio/ring_executor.hpp>

#include <asio/ip/tcp.hpp>
#include <asio/steady_timer.hpp>

#include <chrono>
#include <cstdio>
#include <exception>
#include <string>

namespace {

kevring::task<int> resolve(std::string host) {
    using namespace std::chrono_literals;
    const auto executor = kevring::executor_of(*kevring::ring::current());
    asio::steady_timer timer(executor, 1ms);
    const auto waited = co_await timer.async_wait(kevring::use_kevring);
    if (!waited) co_return 1;

    asio::ip::tcp::resolver resolver(executor);
    const auto found =
        co_await kevring::with_timeout(resolver.async_resolve(host, "", kevring::use_kevring), 10s);
    if (!found) {
        std::printf("%s: %s\n", host.c_str(), found.error().message().c_str());
        co_return 1;
    }
    for (const auto& each : *found)
        std::printf("%s\n", each.endpoint().address().to_string().c_str());
    co_return 0;
}

}  // namespace

int main(int argc, char** argv) try {
    kevring::ring loop;
    return kevring::run(loop, resolve(argc > 1 ? argv[1] : "localhost"));
} catch (const std::exception& failure) {
    std::fprintf(stderr, "asio_inside: %s\n", failure.what());
    return 1;
}
