// bench/support/stream_kevring.cpp: streams on the library: echo, sink, source and proxy.
//
// The program that the others in this folder are compared with. It uses the public interface with
// its defaults, and the command line of the baselines; --buffer-bytes has no meaning here.
#include "bench/support/baseline.hpp"

#include <kevring/kevring.hpp>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <utility>
#include <vector>

namespace {

using kevring::bench::baseline_options;
using kevring::bench::stream_work;

kevring::task<void> echo(kevring::socket client) {
    while (true) {
        const auto received = co_await client.receive();
        if (!received || received->empty()) co_return;
        const auto sent = co_await client.send(received->bytes());
        if (!sent) co_return;
    }
}

kevring::task<void> consume(kevring::socket client) {
    while (true) {
        const auto received = co_await client.receive();
        if (!received || received->empty()) co_return;
    }
}

// All connections send the same bytes, as those of the baselines do: they stay in the caches.
kevring::task<void> produce(kevring::socket client, const std::vector<std::byte>& message) {
    while (true) {
        const auto sent = co_await client.send(message);
        if (!sent) co_return;
    }
}

kevring::task<void> pass_on(kevring::socket client, kevring::endpoint backend) {
    auto server = co_await kevring::connect(client.loop(), backend);
    if (!server) co_return;
    co_await kevring::copy_both(client, *server);
}

kevring::task<void> serve_one(kevring::socket client, const baseline_options& options,
                              const std::vector<std::byte>& message, kevring::endpoint backend) {
    switch (options.work) {
        case stream_work::echo: return echo(std::move(client));
        case stream_work::sink: return consume(std::move(client));
        case stream_work::source: return produce(std::move(client), message);
        case stream_work::proxy: break;
    }
    return pass_on(std::move(client), backend);
}

kevring::task<void> serve(int listening, const baseline_options& options) {
    const std::string text = options.backend_host + ":" + std::to_string(options.backend_port);
    const auto backend = kevring::value_or_throw(kevring::endpoint::parse(text), text.c_str());
    const std::vector<std::byte> message(options.message_bytes, std::byte{'s'});
    kevring::listener listener(*kevring::ring::current(), kevring::fd(listening));
    auto accept_all = [&](kevring::supervisor_scope& clients) -> kevring::task<void> {
        while (true) {
            auto client = co_await listener.accept();
            if (!client) co_return;
            clients.spawn(serve_one(std::move(*client), options, message, backend));
        }
    };
    co_await kevring::in_scope(accept_all);
}

}  // namespace

int main(int argc, char** argv) {
    const auto options = kevring::bench::parse_baseline_options(argc, argv);
    kevring::bench::baseline_serve(options, [&options](int listening) {
        try {
            kevring::run(serve(listening, options));
        } catch (const std::exception& failure) {
            std::fprintf(stderr, "stream_kevring: %s\n", failure.what());
            std::exit(1);
        }
    });
}
