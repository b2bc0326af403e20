// compute.cpp: answers each line with the number of primes below it, computed on a pool of threads, while
// the loop serves other clients. Try: build/examples/compute & nc 127.0.0.1 7000
#include <kevring/kevring.hpp>

#include <CLI/CLI.hpp>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <vector>

namespace {

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

kevring::task<void> answer(kevring::socket client, kevring::thread_pool& pool) {
    kevring::ring& loop = client.loop();
    kevring::byte_reader reader(client);
    while (true) {
        const auto line = co_await reader.read_line(32);
        if (!line) break;
        const std::uint64_t bound = std::min<std::uint64_t>(
            std::strtoull(std::string(*line).c_str(), nullptr, 10), bound_max);
        const auto moved = co_await kevring::resume_on(pool);
        if (!moved) break;                                // stopped, or too many wait: on the loop
        const std::uint64_t count = count_primes(bound);  // on a thread of the pool
        co_await kevring::resume_on(loop);
        const std::string text = std::to_string(count) + '\n';
        const auto sent = co_await client.send(text);
        if (!sent) break;
    }
    co_await client.close();
}

kevring::task<void> serve(kevring::endpoint local, kevring::thread_pool& pool) {
    auto listener = kevring::value_or_throw(kevring::listener::bind(local), "listen");
    auto accept_all = [&](kevring::supervisor_scope& clients) -> kevring::task<void> {
        while (true) {
            auto client = co_await listener.accept();
            if (!client) co_return;
            clients.spawn(answer(std::move(*client), pool), "client");
        }
    };
    co_await kevring::in_scope(accept_all);
}

}  // namespace

int main(int argc, char** argv) try {
    CLI::App options("Counts primes off the loop.");
    std::string address = "127.0.0.1:7000";
    std::size_t thread_count = 2;
    options.add_option("--listen", address, "HOST:PORT or unix:PATH")->capture_default_str();
    options.add_option("--pool", thread_count, "threads that compute")->capture_default_str();
    CLI11_PARSE(options, argc, argv);

    const auto local = kevring::value_or_throw(kevring::endpoint::parse(address), address.c_str());
    kevring::thread_pool pool({.thread_count_max = thread_count, .queue_count_max = 64});
    kevring::run(serve(local, pool));
} catch (const std::exception& failure) {
    std::fprintf(stderr, "compute: %s\n", failure.what());
    return 1;
}
