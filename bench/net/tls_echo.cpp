// bench/net/tls_echo.cpp: cost of an echo and of a handshake over TLS, client and server on one thread.
//
// Question: do tls_stream and its loop cost no more than OpenSSL and a loop need? The baseline, in the
// same process, is asio::ssl::stream over the same OpenSSL, with callbacks; `ratio` is the CPU time in
// ratio to the baseline's: below 1, kevring takes less. With
// --benchmark_enable_random_interleaving=true and repetitions, compare medians of the times instead.
#include "tests/support/loopback_listener.hpp"
#include "tests/support/tls_authority.hpp"

#include <kevring/net/socket.hpp>
#include <kevring/net/tls_context.hpp>
#include <kevring/net/tls_stream.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/run.hpp>
#include <kevring/runtime/task.hpp>
#include <kevring/runtime/task_scope.hpp>
#include <kevring/runtime/when.hpp>

#include <benchmark/benchmark.h>

#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/read.hpp>
#include <asio/ssl.hpp>
#include <asio/write.hpp>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <ctime>
#include <map>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace {

struct files {
    tls_authority authority;
    tls_authority::certificate server = authority.issue("server", "DNS:localhost");
};
const files& test_files() {
    static const files only;
    return only;
}

void must(bool done) {
    if (!done) std::abort();  // figures measured after a failure would be meaningless
}

kevring::tls_context client_context() {
    kevring::tls_client_options options;
    options.authority_file = test_files().authority.authority_file();
    options.session_count_max = 0;
    return kevring::tls_context::client(options).value();
}
kevring::tls_context server_context() {
    kevring::tls_server_options options;
    options.certificate_file = test_files().server.chain_file;
    options.key_file = test_files().server.key_file;
    return kevring::tls_context::server(options).value();
}

std::int64_t cpu_ns() {
    timespec now{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

// The CPU time of an iteration of the last row of Asio, by size of its messages; 0: handshakes.
std::map<std::int64_t, double> asio_ns;

double iteration_ns(const benchmark::State& state, std::int64_t begin_ns) {
    return static_cast<double>(cpu_ns() - begin_ns) / static_cast<double>(state.iterations());
}

void report_ratio(benchmark::State& state, std::int64_t message_bytes, std::int64_t begin_ns) {
    const double own_ns = iteration_ns(state, begin_ns);
    const auto baseline = asio_ns.find(message_bytes);
    if (baseline != asio_ns.end()) state.counters["ratio"] = own_ns / baseline->second;
}

struct two_streams {
    kevring::tls_stream client;
    kevring::tls_stream server;
};

kevring::task<two_streams> connect(kevring::ring& loop, const loopback_listener& listener,
                                   const kevring::tls_context& client,
                                   const kevring::tls_context& server) {
    loopback_connection pair = listener.connect();
    kevring::socket dialled(loop, std::move(pair.dialled));
    kevring::socket accepted(loop, std::move(pair.accepted));
    must(dialled.set({.no_delay = true}).has_value() &&
         accepted.set({.no_delay = true}).has_value());
    auto [connected, served] = co_await kevring::when_all(
        kevring::tls_stream::connect(std::move(dialled), client, "localhost"),
        kevring::tls_stream::accept(std::move(accepted), server));
    must(connected.has_value() && served.has_value());
    co_return two_streams{std::move(*connected), std::move(*served)};
}

kevring::task<void> echo_all(kevring::tls_stream& server) {
    while (true) {
        const auto received = co_await server.receive();
        if (!received || received->empty()) break;
        const auto sent = co_await server.send(received->bytes());
        if (!sent) break;
    }
}

kevring::task<void> receive_all(kevring::tls_stream& client, std::size_t byte_count) {
    std::size_t left = byte_count;
    while (left > 0) {
        const auto received = co_await client.receive();
        must(received.has_value() && !received->empty());
        left -= received->size();
    }
}

kevring::task<void> send_all(kevring::tls_stream& client, const std::string& message) {
    const auto sent = co_await client.send(message);
    must(sent.has_value());
}

void kevring_echo(benchmark::State& state) {
    const std::string message(static_cast<std::size_t>(state.range(0)), 'x');
    const loopback_listener listener;
    kevring::ring loop;
    auto body = [&]() -> kevring::task<void> {
        two_streams both = co_await connect(loop, listener, client_context(), server_context());
        kevring::task_scope serving(loop);
        serving.spawn(echo_all(both.server));
        const std::int64_t begin_ns = cpu_ns();
        for (auto _ : state)
            co_await kevring::when_all(send_all(both.client, message),
                                       receive_all(both.client, message.size()));
        report_ratio(state, state.range(0), begin_ns);
        serving.request_stop();
        co_await serving.join();
    };
    kevring::run(loop, body());
    state.SetBytesProcessed(state.iterations() * state.range(0));
}

void kevring_handshake(benchmark::State& state) {
    const loopback_listener listener;
    const kevring::tls_context client = client_context();
    const kevring::tls_context server = server_context();
    kevring::ring loop;
    auto body = [&]() -> kevring::task<void> {
        const std::int64_t begin_ns = cpu_ns();
        for (auto _ : state) {
            const two_streams both = co_await connect(loop, listener, client, server);
            benchmark::DoNotOptimize(both.client.native().number());
        }
        report_ratio(state, 0, begin_ns);
    };
    kevring::run(loop, body());
}

using asio_stream = asio::ssl::stream<asio::ip::tcp::socket>;

// A context that has run out of work stays stopped until its restart.
void run_until_zero(asio::io_context& loop, const int& pending_count) {
    loop.restart();
    while (pending_count > 0) must(loop.run_one() > 0);
}

struct asio_pair {
    asio_pair(asio::io_context& loop, const loopback_listener& listener,
              asio::ssl::context& client_tls, asio::ssl::context& server_tls)
        : client(loop, client_tls), server(loop, server_tls) {
        loopback_connection pair = listener.connect();
        client.next_layer().assign(asio::ip::tcp::v4(), pair.dialled.release());
        server.next_layer().assign(asio::ip::tcp::v4(), pair.accepted.release());
        client.next_layer().set_option(asio::ip::tcp::no_delay(true));
        server.next_layer().set_option(asio::ip::tcp::no_delay(true));
        client.set_verify_callback(asio::ssl::host_name_verification("localhost"));
        int pending_count = 2;
        const auto shaken = [&](std::error_code error) {
            must(!error);
            --pending_count;
        };
        client.async_handshake(asio::ssl::stream_base::client, shaken);
        server.async_handshake(asio::ssl::stream_base::server, shaken);
        run_until_zero(loop, pending_count);
    }
    asio_stream client;
    asio_stream server;
};

struct asio_contexts {
    asio_contexts() {
        client.load_verify_file(test_files().authority.authority_file());
        client.set_verify_mode(asio::ssl::verify_peer);
        server.use_certificate_chain_file(test_files().server.chain_file);
        server.use_private_key_file(test_files().server.key_file, asio::ssl::context::pem);
    }
    asio::ssl::context client{asio::ssl::context::tls_client};
    asio::ssl::context server{asio::ssl::context::tls_server};
};

class asio_echo_server {
public:
    explicit asio_echo_server(asio_stream& stream) : stream_(stream), buffer_(128 << 10) { read(); }

private:
    void read() {
        stream_.async_read_some(asio::buffer(buffer_),
                                [this](std::error_code error, std::size_t count) {
                                    if (!error) write(count);
                                });
    }
    void write(std::size_t byte_count) {
        asio::async_write(stream_, asio::buffer(buffer_.data(), byte_count),
                          [this](std::error_code error, std::size_t) {
                              if (!error) read();
                          });
    }

    asio_stream& stream_;
    std::vector<char> buffer_;
};

void asio_echo(benchmark::State& state) {
    const std::string message(static_cast<std::size_t>(state.range(0)), 'x');
    std::string received(message.size(), '\0');
    const loopback_listener listener;
    asio_contexts contexts;
    asio::io_context loop(1);
    {
        asio_pair both(loop, listener, contexts.client, contexts.server);
        const asio_echo_server server(both.server);
        const std::int64_t begin_ns = cpu_ns();
        for (auto _ : state) {
            int pending_count = 2;
            const auto done = [&](std::error_code error, std::size_t) {
                must(!error);
                --pending_count;
            };
            asio::async_write(both.client, asio::buffer(message), done);
            asio::async_read(both.client, asio::buffer(received), done);
            run_until_zero(loop, pending_count);
        }
        asio_ns[state.range(0)] = iteration_ns(state, begin_ns);
        both.server.next_layer().close();
        both.client.next_layer().close();
        loop.restart();
        loop.run();
    }
    state.SetBytesProcessed(state.iterations() * state.range(0));
}

void asio_handshake(benchmark::State& state) {
    const loopback_listener listener;
    asio_contexts contexts;
    asio::io_context loop(1);
    const std::int64_t begin_ns = cpu_ns();
    for (auto _ : state) {
        const asio_pair both(loop, listener, contexts.client, contexts.server);
        benchmark::DoNotOptimize(&both);
    }
    asio_ns[0] = iteration_ns(state, begin_ns);
}

void sizes(benchmark::internal::Benchmark* echo) {
    echo->ArgName("message_bytes")->Arg(64)->Arg(1 << 10)->Arg(16 << 10)->Arg(1 << 20);
}
BENCHMARK(asio_echo)->Apply(sizes);  // first: the baselines
BENCHMARK(asio_handshake);
BENCHMARK(kevring_echo)->Apply(sizes);
BENCHMARK(kevring_handshake);

}  // namespace

BENCHMARK_MAIN();
