// An outbox bounds the bytes that a slow reader leaves with the server.
#include "tests/support/catch.hpp"
#include "tests/support/run_on.hpp"
#include "tests/support/scripted_kernel.hpp"
#include "tests/support/socket_pair.hpp"

#include <kevring/net/byte_reader.hpp>
#include <kevring/net/outbox.hpp>
#include <kevring/net/stream.hpp>
#include <kevring/runtime/pipe.hpp>

#include <array>
#include <cerrno>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <system_error>
#include <vector>

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

using kevring::outbox;
using kevring::ring;
using kevring::task;
using kevring::task_scope;
using namespace std::chrono_literals;

namespace {

// Two connected sockets of small buffers.
struct both_ends {
    explicit both_ends(ring& loop) {
        int numbers[2] = {-1, -1};
        REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, numbers) == 0);
        local.emplace(loop, kevring::fd(numbers[0]));
        peer.emplace(loop, kevring::fd(numbers[1]));
        kevring::socket_options small;
        small.send_buffer_bytes = 4096;
        REQUIRE(local->set(small).has_value());
    }
    std::optional<kevring::socket> local;
    std::optional<kevring::socket> peer;
};

task<void> run_box(outbox& box, std::error_code& ended) {
    const auto sent = co_await box.run();
    ended = sent ? std::error_code() : sent.error();
}

task<void> write_block(outbox& box, std::string text, std::vector<std::error_code>& ended) {
    const auto written = co_await box.write(text);
    ended.push_back(written ? std::error_code() : written.error());
}

// Fills the outbox until a write does not fit: the peer reads nothing.
task<void> fill(outbox& box) {
    const std::string block(1000, 'f');
    // The kernel takes some of it in each iteration, until its buffer is full.
    for (int quiet_count = 0; quiet_count < 20;) {
        if (box.try_write(block))
            quiet_count = 0;
        else
            ++quiet_count;
        co_await kevring::yield();
    }
}

}  // namespace

TEST_CASE("bytes are sent in the order of their writes, and close() ends after the last",
          "[net][outbox]") {
    ring loop;
    auto body = [&]() -> task<void> {
        both_ends ends(loop);
        outbox box(*ends.local, {.byte_count_max = 1000});
        std::error_code ended = std::make_error_code(std::errc::io_error);
        task_scope tasks(loop);
        tasks.spawn(run_box(box, ended));
        std::string expected;
        auto write_all = [&]() -> task<void> {
            for (int i = 0; i < 300; ++i) {
                const std::string text(static_cast<std::size_t>(i),
                                       static_cast<char>('a' + i % 26));
                const auto written = co_await box.write(text);
                CHECK(written.has_value());
                CHECK(box.held_bytes() <= 1000);
                expected += text;
            }
            box.close();
            const auto late = co_await box.write("x");
            CHECK(late.error() == std::errc::broken_pipe);
            CHECK_FALSE(box.try_write("x"));
            const auto flushed = co_await box.flush();
            CHECK(flushed.has_value());
        };
        tasks.spawn(write_all());
        std::string received;
        while (received.size() < 300 * 299 / 2) {
            const auto bytes = co_await ends.peer->receive();
            REQUIRE(bytes.has_value());
            REQUIRE_FALSE(bytes->empty());
            received.append(reinterpret_cast<const char*>(bytes->data()), bytes->size());
        }
        co_await tasks.join();
        CHECK_FALSE(ended);
        CHECK(received == expected);
        CHECK(box.held_bytes() == 0);
    };
    run_on(loop, body);
}

TEST_CASE("a writer waits while a slow reader has filled the outbox", "[net][outbox]") {
    ring loop;
    auto body = [&]() -> task<void> {
        both_ends ends(loop);
        outbox box(*ends.local, {.byte_count_max = 10'000});
        std::error_code ended;
        task_scope tasks(loop);
        tasks.spawn(run_box(box, ended));
        co_await fill(box);
        CHECK(box.held_bytes() > 9'000);
        CHECK(box.held_bytes() <= 10'000);
        const std::string large(5'000, 'x');
        const auto waiting = co_await kevring::with_timeout(box.write(large), 1ms);
        CHECK(waiting.error() == std::errc::timed_out);
        const auto too_large = co_await box.write(std::string(10'001, 'x'));
        CHECK(too_large.error() == std::errc::message_size);
        const auto not_empty = co_await kevring::with_timeout(box.flush(), 1ms);
        CHECK(not_empty.error() == std::errc::timed_out);

        // A small write does not overtake a large one that waits.
        std::vector<std::error_code> order;
        tasks.spawn(write_block(box, std::string(5'000, 'L'), order));
        CHECK_FALSE(box.try_write("s"));
        tasks.spawn(write_block(box, "s", order));
        std::string received;
        while (received.empty() || received.back() != 's') {
            const auto bytes = co_await ends.peer->receive();
            REQUIRE(bytes.has_value());
            received.append(reinterpret_cast<const char*>(bytes->data()), bytes->size());
        }
        CHECK(received.substr(received.size() - 5'001) == std::string(5'000, 'L') + 's');
        CHECK(order == std::vector<std::error_code>(2));
        const auto flushed = co_await box.flush();
        CHECK(flushed.has_value());
        tasks.request_stop();
        co_await tasks.join();
        CHECK(ended == std::errc::operation_canceled);
        const auto after = co_await box.write("x");
        CHECK(after.error() == std::errc::operation_canceled);
    };
    run_on(loop, body);
}

TEST_CASE("a peer that takes nothing ends the outbox after the stall timeout", "[net][outbox]") {
    ring loop;
    auto body = [&]() -> task<void> {
        both_ends ends(loop);
        outbox box(*ends.local, {.byte_count_max = 10'000, .stall_timeout = 20ms});
        std::error_code ended;
        task_scope tasks(loop);
        tasks.spawn(run_box(box, ended));
        std::vector<std::error_code> order;
        while (!ended) {
            const auto written = co_await box.write(std::string(1'000, 'x'));
            if (!written) order.push_back(written.error());
        }
        co_await tasks.join();
        CHECK(ended == std::errc::timed_out);
        REQUIRE(order.size() == 1);
        CHECK(order[0] == std::errc::timed_out);
        CHECK(box.held_bytes() == 0);
        const auto flushed = co_await box.flush();
        CHECK(flushed.error() == std::errc::timed_out);
    };
    run_on(loop, body);
}

TEST_CASE("every error of a send reaches the writers that wait", "[net][outbox]") {
    scripted_kernel script;
    ring loop({}, script);
    auto body = [&]() -> task<void> {
        for (const int error : {ECONNRESET, EPIPE, ENOBUFS, ENOMEM, ENOTCONN, EACCES}) {
            both_ends ends(loop);
            outbox box(*ends.local, {.byte_count_max = 100});
            std::error_code ended;
            std::vector<std::error_code> order;
            script.fail(IORING_OP_SEND, error);
            task_scope tasks(loop);
            CHECK(box.try_write(std::string(100, 'x')));
            tasks.spawn(write_block(box, "a", order));
            tasks.spawn(write_block(box, "b", order));
            tasks.spawn(run_box(box, ended));
            co_await tasks.join();
            CHECK(ended.value() == error);
            REQUIRE(order.size() == 2);
            CHECK(order[0].value() == error);
            CHECK(order[1].value() == error);
        }
    };
    run_on(loop, body);
}

TEST_CASE("close() releases the writers that wait, without their bytes", "[net][outbox]") {
    ring loop;
    auto body = [&]() -> task<void> {
        both_ends ends(loop);
        outbox box(*ends.local, {.byte_count_max = 10});
        CHECK(box.try_write("0123456789"));
        std::vector<std::error_code> order;
        task_scope tasks(loop);
        tasks.spawn(write_block(box, "aaaaaaaaaa", order));
        tasks.spawn(write_block(box, "b", order));
        box.close();
        std::error_code ended = std::make_error_code(std::errc::io_error);
        tasks.spawn(run_box(box, ended));
        co_await tasks.join();
        CHECK_FALSE(ended);
        REQUIRE(order.size() == 2);
        CHECK(order[0] == std::errc::broken_pipe);
        CHECK(order[1] == std::errc::broken_pipe);
        const auto bytes = co_await ends.peer->receive();
        CHECK(bytes.value().size() == 10);
    };
    run_on(loop, body);
}

TEST_CASE("write_all that is stopped reports the bytes that the stream has taken",
          "[net][stream]") {
    ring loop;
    auto body = [&]() -> task<void> {
        both_ends ends(loop);
        const std::vector<std::string> parts(16, std::string(1 << 20, 't'));
        const auto written =
            co_await kevring::with_timeout(kevring::write_all(*ends.local, parts), 20ms);
        CHECK(written.error() == std::errc::timed_out);
        ends.local.reset();
        std::size_t received_bytes = 0;
        while (true) {
            const auto received = co_await ends.peer->receive();
            if (!received || received->empty()) break;
            received_bytes += received->size();
        }
        CHECK(received_bytes > 0);
        CHECK(received_bytes == written.bytes_written());
    };
    run_on(loop, body);
}

TEST_CASE("read_exactly and write_all pass whole buffers through sockets and pipes",
          "[net][stream]") {
    ring loop;
    auto body = [&]() -> task<void> {
        both_ends ends(loop);
        const std::string text(100'000, 't');
        std::vector<std::byte> buffer(text.size());
        task_scope tasks(loop);
        auto write = [&]() -> task<void> {
            const auto written = co_await kevring::write_all(*ends.local, text);
            CHECK(written.has_value());
            ends.local.reset();
        };
        tasks.spawn(write());
        const auto read = co_await kevring::read_exactly(*ends.peer, std::span(buffer));
        CHECK(read.has_value());
        CHECK(buffer.back() == std::byte{'t'});
        co_await tasks.join();
        const auto ended = co_await kevring::read_exactly(*ends.peer, std::span(buffer));
        CHECK(ended.error() == std::errc::connection_aborted);

        int numbers[2] = {-1, -1};
        REQUIRE(::pipe2(numbers, O_CLOEXEC) == 0);
        kevring::pipe_reader reader(loop, kevring::fd(numbers[0]));
        kevring::pipe_writer writer(loop, kevring::fd(numbers[1]));
        const auto written = co_await kevring::write_all(writer, "pipe");
        CHECK(written.has_value());
        CHECK(written.bytes_written() == 4);
        const auto piped = co_await kevring::read_exactly(reader, std::span(buffer).first(4));
        CHECK(piped.has_value());
    };
    run_on(loop, body);
}

TEST_CASE("a reader reads to the end, with a bound", "[net][byte_reader]") {
    ring loop;
    auto body = [&]() -> task<void> {
        both_ends ends(loop);
        kevring::byte_reader reader(*ends.peer);
        static_cast<void>(co_await ends.local->send("line\nrest of it"));
        const auto line = co_await reader.read_line();
        CHECK(line.value() == "line");
        const auto early = co_await kevring::with_timeout(reader.read_to_end(100), 1ms);
        CHECK(early.error() == std::errc::timed_out);
        const auto too_many = co_await reader.read_to_end(9);
        CHECK(too_many.error() == std::errc::message_size);
        ends.local.reset();
        const auto rest = co_await reader.read_to_end(10);
        CHECK(rest.value() == "rest of it");
        const auto nothing = co_await reader.read_to_end(0);
        CHECK(nothing.value().empty());
    };
    run_on(loop, body);
}
