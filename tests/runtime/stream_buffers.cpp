// Streams of receive move between the small and the large buffers of their pool.
#include "tests/support/catch.hpp"
#include "tests/support/received.hpp"
#include "tests/support/run_on.hpp"
#include "tests/support/scripted_kernel.hpp"
#include "tests/support/socket_pair.hpp"

#include <kevring/runtime/buffer_pool.hpp>
#include <kevring/runtime/operations/receive.hpp>
#include <kevring/runtime/when.hpp>

using kevring::borrowed_buffer;
using kevring::buffer_pool;
using kevring::receive_stream;
using kevring::ring;
using kevring::task;
using namespace std::chrono_literals;

namespace {

// Until `byte_count` bytes are there.
task<std::string> receive_exactly(receive_stream& stream, std::size_t byte_count) {
    std::string all;
    while (all.size() < byte_count) {
        const auto got = co_await stream.next();
        if (!got || got->empty()) break;
        all += text_of(*got);
    }
    co_return all;
}

constexpr kevring::buffer_pool_options two_classes{
    .buffer_bytes = 4096, .large_buffer_bytes = 64 * 1024, .large_buffer_count_max = 4};

}  // namespace

TEST_CASE("a stream moves to large buffers with large messages, and back with small ones",
          "[runtime][receive][multishot]") {
    scripted_kernel script;
    ring loop({}, script);
    buffer_pool pool(loop, two_classes);
    socket_pair sockets;
    auto body = [&]() -> task<void> {
        receive_stream stream(loop, sockets.local(), pool);
        for (int round = 0; round < 3; ++round) {
            const unsigned polls = script.submitted(IORING_OP_POLL_ADD);
            for (int i = 0; i < 20; ++i) {
                const std::string message(60'000, static_cast<char>('a' + i));
                sockets.send_from_peer(message);
                const std::string got = co_await receive_exactly(stream, message.size());
                CHECK(got == message);
            }
            CHECK(script.submitted(IORING_OP_POLL_ADD) > polls);
            CHECK(pool.large_buffer_count() > 0);
            const unsigned receives = script.submitted(IORING_OP_RECV);
            for (int i = 0; i < 40; ++i) {
                const std::string message(64, static_cast<char>('A' + i));
                sockets.send_from_peer(message);
                const std::string got = co_await receive_exactly(stream, message.size());
                CHECK(got == message);
            }
            CHECK(script.submitted(IORING_OP_RECV) == receives + 1);
        }
        sockets.send_from_peer("the last");
        sockets.close_peer();
        const std::string rest = co_await all_of(stream);
        CHECK(rest == "the last");
        const auto end = co_await stream.next();
        CHECK(end.value().empty());
    };
    run_on(loop, body);
    CHECK(pool.borrowed_count() == 0);
}

TEST_CASE("a stop between large messages loses no byte", "[runtime][receive][multishot]") {
    ring loop;
    buffer_pool pool(loop, two_classes);
    socket_pair sockets;
    auto body = [&]() -> task<void> {
        receive_stream stream(loop, sockets.local(), pool);
        std::string sent;
        std::string all;
        for (int i = 0; i < 200; ++i) {
            const std::string message(static_cast<std::size_t>(i % 7) * 9'001 + 1,
                                      static_cast<char>('a' + i % 26));
            sockets.send_from_peer(message);
            sent += message;
            // It grows: a slow machine may need longer than that to submit a request.
            kevring::nanoseconds timeout = 1us;
            while (all.size() < sent.size()) {
                const auto limit = co_await kevring::within(timeout);
                const auto got = co_await stream.next();
                if (got)
                    all += text_of(*got);
                else
                    CHECK(got.error() == std::errc::timed_out);
                timeout *= 2;
            }
        }
        CHECK(all == sent);
    };
    run_on(loop, body);
}

TEST_CASE("streams that find no large buffer use the others", "[runtime][receive][multishot]") {
    ring loop;
    buffer_pool pool(loop, two_classes);
    std::vector<socket_pair> pairs(8);
    auto body = [&]() -> task<void> {
        std::vector<std::unique_ptr<receive_stream>> streams;
        std::vector<borrowed_buffer> held;
        for (socket_pair& each : pairs) {
            streams.push_back(std::make_unique<receive_stream>(loop, each.local(), pool));
            const std::string message(50'000, 'm');
            for (int i = 0; i < 2; ++i) {
                each.send_from_peer(message);
                std::size_t byte_count = 0;
                while (byte_count < message.size()) {
                    auto got = co_await streams.back()->next();
                    REQUIRE(got.has_value());
                    byte_count += got->size();
                    held.push_back(std::move(*got));  // nothing is given back
                }
                CHECK(byte_count == message.size());
            }
        }
        CHECK(pool.large_buffer_count() == 4);
    };
    run_on(loop, body);
}

TEST_CASE("memory that a stopped program is sent stays within the bound of its pool",
          "[runtime][receive][multishot]") {
    ring loop;
    const std::size_t resident_max = 64 * 4096;
    buffer_pool pool(loop, {.buffer_bytes = 4096, .resident_bytes_max = resident_max});
    std::vector<socket_pair> pairs(64);
    auto body = [&]() -> task<void> {
        std::vector<std::unique_ptr<receive_stream>> streams;
        for (socket_pair& each : pairs) {
            streams.push_back(std::make_unique<receive_stream>(loop, each.local(), pool));
            each.send_from_peer("x");
            const auto got = co_await streams.back()->next();
            REQUIRE(got.has_value());
        }
        for (socket_pair& each : pairs) each.send_from_peer(std::string(100'000, 'y'));
        for (int i = 0; i < 20; ++i) co_await kevring::yield();
        CHECK(pool.resident_bytes() <= resident_max);
        for (std::size_t i = 0; i < pairs.size(); ++i) {
            const std::string got = co_await receive_exactly(*streams[i], 100'000);
            CHECK(got == std::string(100'000, 'y'));
        }
        CHECK(pool.resident_bytes() <= resident_max);
    };
    run_on(loop, body);
}
