// bench/net/datagram_echo.cpp: the cost of a UDP message that a server sends back.
//
// The client is the same in all rows: it sends `batch` messages by one sendmmsg(2) and receives them
// back. The server runs on another thread. The figure is `server_ns`: the CPU time of its thread for
// each message. The baselines, in the same process: one recvmmsg(2) and one sendmmsg(2) for all
// messages that have arrived, the least that a server can do; and Asio, one receive and one send for
// each message. `ratio` is server_ns in ratio to that of the first baseline, measured before it. With
// --benchmark_repetitions=5 --benchmark_enable_random_interleaving=true compare medians of server_ns.
#include <kevring/net/datagram_socket.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/run.hpp>
#include <kevring/runtime/task.hpp>
#include <kevring/runtime/task_scope.hpp>

#include <benchmark/benchmark.h>

#include <asio/io_context.hpp>
#include <asio/ip/udp.hpp>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <functional>
#include <latch>
#include <map>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <pthread.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

namespace {

using kevring::datagram_socket;
using kevring::endpoint;
using kevring::ring;
using kevring::task;

constexpr std::size_t batch_max = 64;
constexpr std::size_t message_bytes_max = 1400;
constexpr std::size_t end_bytes = 1;  // of the message that ends a server

[[noreturn]] void fail(const char* call) {
    throw std::system_error(errno, std::system_category(), call);
}

// Arrays for sendmmsg(2) and recvmmsg(2).
struct message_batch {
    message_batch() {
        for (std::size_t i = 0; i < batch_max; ++i) {
            parts[i] = {bytes[i].data(), message_bytes_max};
            headers[i].msg_hdr = {};
            headers[i].msg_hdr.msg_iov = &parts[i];
            headers[i].msg_hdr.msg_iovlen = 1;
        }
    }
    void name_peers() {
        for (std::size_t i = 0; i < batch_max; ++i) {
            headers[i].msg_hdr.msg_name = peers[i].address();
            headers[i].msg_hdr.msg_namelen = endpoint::capacity();
        }
    }
    std::array<std::array<char, message_bytes_max>, batch_max> bytes{};
    std::array<iovec, batch_max> parts{};
    std::array<endpoint, batch_max> peers;
    std::array<mmsghdr, batch_max> headers{};
};

kevring::fd open_udp() {
    kevring::fd opened(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const endpoint local = endpoint::loopback(0);
    if (!opened || ::bind(opened.number(), local.address(), local.address_bytes()) != 0)
        fail("bind");
    return opened;
}

// Recvmmsg and sendmmsg.
void serve_in_batches(kevring::fd opened) {
    message_batch batch;
    while (true) {
        batch.name_peers();
        for (iovec& each : batch.parts) each.iov_len = message_bytes_max;
        const int count =
            ::recvmmsg(opened.number(), batch.headers.data(), batch_max, MSG_WAITFORONE, nullptr);
        if (count <= 0) fail("recvmmsg");
        for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
            if (batch.headers[i].msg_len == end_bytes) return;
            batch.parts[i].iov_len = batch.headers[i].msg_len;
        }
        for (int sent = 0; sent < count;) {
            const int more = ::sendmmsg(opened.number(), batch.headers.data() + sent,
                                        static_cast<unsigned>(count - sent), 0);
            if (more <= 0) fail("sendmmsg");
            sent += more;
        }
    }
}

// One receive and one send at a time.
task<void> serve_one(ring& loop, kevring::fd opened) {
    datagram_socket socket(loop, std::move(opened));
    while (true) {
        auto message = co_await socket.receive_from();
        if (!message || message->byte_count == end_bytes) co_return;
        const auto sent = co_await socket.send_to(message->payload, message->peer);
        if (!sent) co_return;
    }
}

// The answers of all messages that have arrived are sent together.
task<void> answer(datagram_socket& socket, kevring::pooled_datagram message) {
    static_cast<void>(co_await socket.send_to(message.payload, message.peer));
}
task<void> serve_concurrently(ring& loop, kevring::fd opened) {
    datagram_socket socket(loop, std::move(opened));
    kevring::task_scope answers(loop);
    while (true) {
        auto message = co_await socket.receive_from();
        if (!message || message->byte_count == end_bytes) break;
        answers.spawn(answer(socket, std::move(*message)));
    }
    co_await answers.join();
}

class asio_echo {
public:
    explicit asio_echo(kevring::fd opened)
        : context_(1), socket_(context_, asio::ip::udp::v4(), opened.release()) {}
    void run() {
        receive();
        context_.run();
    }

private:
    void receive() {
        socket_.async_receive_from(
            asio::buffer(bytes_), peer_,
            [this](const asio::error_code& failure, std::size_t count) {
                if (failure || count == end_bytes) return;
                socket_.async_send_to(asio::buffer(bytes_.data(), count), peer_,
                                      [this](const asio::error_code&, std::size_t) { receive(); });
            });
    }

    asio::io_context context_;
    asio::ip::udp::socket socket_;
    asio::ip::udp::endpoint peer_;
    std::array<char, message_bytes_max> bytes_{};
};

std::int64_t cpu_ns_of(clockid_t clock) {
    timespec now{};
    ::clock_gettime(clock, &now);
    return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

// server_ns of the last row of mmsg, by message_bytes and batch.
std::map<std::pair<std::int64_t, std::int64_t>, double> mmsg_ns;

double measure(benchmark::State& state, const std::function<void(kevring::fd)>& serve) {
    const auto message_bytes = static_cast<std::size_t>(state.range(0));
    const auto batch_count = static_cast<unsigned>(state.range(1));
    kevring::fd opened = open_udp();
    endpoint server;
    socklen_t address_bytes = endpoint::capacity();
    if (::getsockname(opened.number(), server.address(), &address_bytes) != 0) fail("getsockname");
    server.set_address_bytes(address_bytes);
    std::latch started(1);
    clockid_t clock{};
    std::jthread thread([&] {
        ::pthread_getcpuclockid(::pthread_self(), &clock);
        started.count_down();
        serve(std::move(opened));
    });
    started.wait();

    const kevring::fd client = open_udp();
    const timeval limit{10, 0};
    ::setsockopt(client.number(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (::connect(client.number(), server.address(), server.address_bytes()) != 0) fail("connect");
    message_batch sent;
    message_batch received;
    for (iovec& each : sent.parts) each.iov_len = message_bytes;

    std::int64_t message_count = 0;
    const std::int64_t begin_ns = cpu_ns_of(clock);
    for (auto _ : state) {
        if (::sendmmsg(client.number(), sent.headers.data(), batch_count, 0) !=
            static_cast<int>(batch_count))
            fail("sendmmsg");
        for (unsigned count = 0; count < batch_count;) {
            const int more = ::recvmmsg(client.number(), received.headers.data(),
                                        batch_count - count, MSG_WAITFORONE, nullptr);
            if (more <= 0) fail("recvmmsg: a message was lost");
            count += static_cast<unsigned>(more);
        }
        message_count += batch_count;
    }
    const std::int64_t end_ns = cpu_ns_of(clock);
    const char end = 0;
    if (::send(client.number(), &end, end_bytes, 0) != 1) fail("send");
    thread.join();
    state.SetItemsProcessed(message_count);
    const double server_ns =
        static_cast<double>(end_ns - begin_ns) / static_cast<double>(message_count);
    state.counters["server_ns"] = server_ns;
    return server_ns;
}

void compare(benchmark::State& state, const std::function<void(kevring::fd)>& serve) {
    const double server_ns = measure(state, serve);
    const auto baseline = mmsg_ns.find({state.range(0), state.range(1)});
    if (baseline != mmsg_ns.end()) state.counters["ratio"] = server_ns / baseline->second;
}

void mmsg(benchmark::State& state) {
    mmsg_ns[{state.range(0), state.range(1)}] = measure(state, serve_in_batches);
}
void asio_epoll(benchmark::State& state) {
    compare(state, [](kevring::fd opened) { asio_echo(std::move(opened)).run(); });
}
void kevring_one(benchmark::State& state) {
    compare(state, [](kevring::fd opened) {
        ring loop;
        kevring::run(loop, serve_one(loop, std::move(opened)));
    });
}
void kevring_concurrent(benchmark::State& state) {
    compare(state, [](kevring::fd opened) {
        ring loop;
        kevring::run(loop, serve_concurrently(loop, std::move(opened)));
    });
}

void sizes(benchmark::internal::Benchmark* row) {
    row->ArgNames({"message_bytes", "batch"})
        ->Args({64, 1})
        ->Args({64, 32})
        ->Args({1400, 32})
        ->UseRealTime();
}
BENCHMARK(mmsg)->Apply(sizes);
BENCHMARK(asio_epoll)->Apply(sizes);
BENCHMARK(kevring_one)->Apply(sizes);
BENCHMARK(kevring_concurrent)->Apply(sizes);

}  // namespace

BENCHMARK_MAIN();
