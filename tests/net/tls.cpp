// TLS connections over socket pairs: handshakes, bytes, stops and ends.
#include "tests/support/catch.hpp"
#include "tests/support/run_on.hpp"
#include "tests/support/scripted_kernel.hpp"
#include "tests/support/slow_clock.hpp"
#include "tests/support/tls_pair.hpp"

#include <kevring/net/stream.hpp>
#include <kevring/net/tls_context.hpp>
#include <kevring/net/tls_stream.hpp>
#include <kevring/runtime/sleep.hpp>
#include <kevring/runtime/when.hpp>

#include <asio/buffer.hpp>

#include <array>
#include <cstddef>
#include <fstream>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

using kevring::ring;
using kevring::task;
using kevring::task_scope;
using kevring::tls_context;
using kevring::tls_errc;
using kevring::tls_server_options;
using kevring::tls_stream;
using namespace std::chrono_literals;

namespace {

std::string pattern(std::size_t byte_count) {
    std::string text(byte_count, '\0');
    for (std::size_t i = 0; i < byte_count; ++i) text[i] = static_cast<char>(i * 7 + i / 251);
    return text;
}

// Passes the bytes of two sockets on, one at a time.
task<void> relay_bytes(kevring::socket& source, kevring::socket& target) {
    std::array<std::byte, 1> byte{};
    while (true) {
        const auto count = co_await source.receive(byte);
        if (!count || *count == 0) break;
        const auto sent = co_await target.send(byte);
        if (!sent) break;
    }
    const auto ended = co_await target.shutdown_send();
    static_cast<void>(ended);
}

}  // namespace

TEST_CASE("large messages pass both ways at once, and no side waits for the other", "[net][tls]") {
    ring loop;
    const std::string sent = pattern(1 << 20);
    std::array<std::string, 2> received;
    auto body = [&]() -> task<void> {
        two_streams both = co_await connected_streams(loop);
        auto send_all = [&sent](tls_stream& stream) -> task<void> {
            const auto count = co_await stream.send(sent);
            CHECK(count.value() == sent.size());
        };
        auto receive_all = [&](tls_stream& stream, std::string& target) -> task<void> {
            target = co_await receive_bytes(stream, sent.size());
        };
        task_scope tasks(loop);
        tasks.spawn(send_all(*both.client));
        tasks.spawn(send_all(*both.server));
        tasks.spawn(receive_all(*both.client, received[0]));
        tasks.spawn(receive_all(*both.server, received[1]));
        co_await tasks.join();
    };

    run_on(loop, body);

    CHECK((received[0] == sent));
    CHECK((received[1] == sent));
}

TEST_CASE("a TLS stream sends views and lists in order", "[net][tls][byte_views]") {
    ring loop;
    auto body = [&]() -> task<void> {
        two_streams both = co_await connected_streams(loop);
        const std::vector<unsigned char> octets{'o', 'c', 't', 'e', 't', 's'};
        const std::vector<char> characters{'c', 'h', 'a', 'r'};
        const std::vector<std::byte> bytes(5, std::byte{'b'});
        const std::string large = pattern(40'000);  // several records
        const std::array<asio::const_buffer, 3> buffers{asio::buffer(octets), asio::buffer(large),
                                                        asio::buffer(characters)};
        const std::vector<std::string> strings{"one", "", "two"};
        const std::array<asio::const_buffer, 2> nothing;
        std::string expected;
        const auto check = [&](const kevring::send_result& sent, const std::string& content) {
            CHECK(sent.has_value());
            CHECK(sent.bytes_sent() == content.size());
            expected += content;
        };
        auto send_all = [&](tls_stream& stream) -> task<void> {
            check(co_await stream.send(octets), "octets");
            check(co_await stream.send(characters), "char");
            check(co_await stream.send(bytes), "bbbbb");
            check(co_await stream.send(asio::buffer(large, 7)), large.substr(0, 7));
            check(co_await stream.send(buffers), "octets" + large + "char");
            check(co_await stream.send(strings), "onetwo");
            check(co_await stream.send(nothing), "");
            const auto one = co_await kevring::write_all(stream, octets);
            const auto all = co_await kevring::write_all(stream, buffers);
            CHECK((one.has_value() && all.has_value()));
            expected += "octetsoctets" + large + "char";
            const auto ended = co_await stream.shutdown_send();
            CHECK(ended.has_value());
        };
        std::string received;
        auto receive_all = [&](tls_stream& stream) -> task<void> {
            received = co_await receive_bytes(stream, 1'000'000);  // until the end
        };
        task_scope tasks(loop);
        tasks.spawn(send_all(*both.client));
        tasks.spawn(receive_all(*both.server));
        co_await tasks.join();
        CHECK((received == expected));

        const kevring::send_result refused = co_await both.client->send(buffers);
        CHECK(refused.error() == std::errc::broken_pipe);
        CHECK(refused.bytes_sent() == 0);
    };
    run_on(loop, body);
}

TEST_CASE("handshake, bytes and both ends pass a relay that passes one byte at a time",
          "[net][tls]") {
    ring loop;
    const std::string sent = pattern(300);
    std::array<std::string, 2> received;
    std::optional<bool> ended;
    auto body = [&]() -> task<void> {
        two_sockets near(loop);
        two_sockets far(loop);
        task_scope relays(loop);
        relays.spawn(relay_bytes(near.second, far.first));
        relays.spawn(relay_bytes(far.first, near.second));
        auto [client, server] = co_await kevring::when_all(
            tls_stream::connect(std::move(near.first), client_context(), "localhost"),
            tls_stream::accept(std::move(far.second), server_context()));
        REQUIRE(client.has_value());
        REQUIRE(server.has_value());
        const auto first = co_await client->send(sent);
        CHECK(first.has_value());
        received[0] = co_await receive_bytes(*server, sent.size());
        const auto second = co_await server->send(sent);
        CHECK(second.has_value());
        received[1] = co_await receive_bytes(*client, sent.size());
        const auto finished = co_await client->shutdown_send();
        CHECK(finished.has_value());
        const auto last = co_await server->receive();
        ended = last.has_value() && last->empty();
        co_await kevring::when_all(server->close(), client->close());
        co_await relays.join();
    };

    run_on(loop, body);

    CHECK(received[0] == sent);
    CHECK(received[1] == sent);
    CHECK(ended == true);
}

TEST_CASE("after the end of one side the other still sends", "[net][tls]") {
    ring loop;
    std::string answer;
    auto body = [&]() -> task<void> {
        two_streams both = co_await connected_streams(loop);
        const auto asked = co_await both.client->send("question");
        CHECK(asked.has_value());
        const auto ended = co_await both.client->shutdown_send();
        CHECK(ended.has_value());
        const auto refused = co_await both.client->send("more");
        CHECK(refused.error() == std::errc::broken_pipe);
        const std::string question = co_await receive_bytes(*both.server, 100);
        CHECK(question == "question");
        const auto again = co_await both.server->receive();  // the end is reported each time
        CHECK((again.has_value() && again->empty()));
        const auto sent = co_await both.server->send("answer");
        CHECK(sent.has_value());
        answer = co_await receive_bytes(*both.client, 6);
    };

    run_on(loop, body);

    CHECK(answer == "answer");
}

TEST_CASE("a connection that is cut is an error, and a close_notify is the end", "[net][tls]") {
    ring loop;
    const bool cut = GENERATE(true, false);
    CAPTURE(cut);
    std::string received;
    std::error_code error;
    auto body = [&]() -> task<void> {
        // Without tickets: a close with unread bytes would be a reset.
        tls_server_options options = server_options();
        options.session_tickets = false;
        two_streams both = co_await handshake(two_sockets(loop), client_context(),
                                              tls_context::server(options).value());
        REQUIRE(both.client.has_value());
        REQUIRE(both.server.has_value());
        const auto sent = co_await both.client->send("all of it");
        CHECK(sent.has_value());
        if (!cut) co_await both.client->close_without_lingering();
        both.client = tl::unexpected(std::error_code());  // closes the descriptor
        received = co_await receive_bytes(*both.server, 9);
        const auto last = co_await both.server->receive();
        if (!last) error = last.error();
        std::array<std::byte, 8> buffer{};
        const auto again = co_await both.server->receive(buffer);
        CHECK(again.has_value() == !cut);
    };

    run_on(loop, body);

    CHECK(received == "all of it");
    if (cut)
        CHECK(error == tls_errc::truncated);
    else
        CHECK(!error);
}

TEST_CASE("receive into the caller's memory returns parts of a record", "[net][tls]") {
    ring loop;
    std::string received;
    auto body = [&]() -> task<void> {
        two_streams both = co_await connected_streams(loop);
        const auto sent = co_await both.client->send("abcdefgh");
        CHECK(sent.has_value());
        std::array<std::byte, 3> buffer{};
        while (received.size() < 6) {
            const auto count = co_await both.server->receive(buffer);
            REQUIRE(count.has_value());
            received.append(reinterpret_cast<const char*>(buffer.data()), *count);
        }
        received += co_await receive_bytes(*both.server, 2);  // both forms can be used
        const auto none = co_await both.server->receive(std::span<std::byte>());
        CHECK(none.error() == std::errc::invalid_argument);
    };

    run_on(loop, body);

    CHECK(received == "abcdefgh");
}

TEST_CASE("a second await of one direction is refused and disturbs nothing", "[net][tls]") {
    ring loop;
    std::string received;
    auto body = [&]() -> task<void> {
        two_streams both = co_await connected_streams(loop);
        auto receive = [&]() -> task<void> { received = co_await receive_bytes(*both.server, 5); };
        task_scope tasks(loop);
        tasks.spawn(receive());
        const auto second = co_await both.server->receive();
        CHECK(second.error() == std::errc::connection_already_in_progress);
        const std::string large(8 << 20, 'x');
        auto send = [&]() -> task<void> {
            const auto sent = co_await both.server->send(large);
            CHECK(sent.has_value());
        };
        tasks.spawn(send());
        co_await kevring::yield();
        const auto other = co_await both.server->send("other");
        CHECK(other.error() == std::errc::connection_already_in_progress);
        CHECK(other.bytes_sent() == 0);
        const auto sent = co_await both.client->send("hello");
        CHECK(sent.has_value());
        const std::string all = co_await receive_bytes(*both.client, large.size());
        CHECK((all == large));
        co_await tasks.join();
    };

    run_on(loop, body);

    CHECK(received == "hello");
}

TEST_CASE("bytes that are no TLS end the handshake", "[net][tls]") {
    ring loop;
    socket_pair pair;
    // A request without TLS, or a record of a handshake that is none.
    const bool is_record = GENERATE(true, false);
    CAPTURE(is_record);
    pair.send_from_peer(is_record ? std::string_view("\x16\x03\x01\x00\x05hello", 10)
                                  : std::string_view("GET / HTTP/1.1\r\n\r\n"));
    std::error_code error;
    auto body = [&]() -> task<void> {
        kevring::socket accepted(loop, copy_of(pair.local()));
        pair.close_local();
        // This end stays open: the server must not depend on the peer to close.
        const auto server = co_await tls_stream::accept(std::move(accepted), server_context());
        error = server.error();
    };

    run_on(loop, body);

    CHECK(error == tls_errc::protocol_error);
    const std::string alert = pair.receive_at_peer();
    CHECK(alert.size() == (is_record ? 7 : 0));  // a peer without TLS would not understand it
    if (is_record) CHECK(alert[0] == 21);
}

TEST_CASE("a client that is silent in the handshake is given its time, and no more", "[net][tls]") {
    ring loop;
    socket_pair pair;
    tls_server_options options = server_options();
    options.handshake_timeout = 20ms;
    std::error_code error;
    auto body = [&]() -> task<void> {
        const tls_context context = tls_context::server(options).value();
        kevring::socket accepted(loop, copy_of(pair.local()));
        pair.close_local();
        const auto server = co_await tls_stream::accept(std::move(accepted), context);
        error = server.error();
        CHECK(context.handshake_count() == 0);
    };

    run_on(loop, body);

    CHECK(error == std::errc::timed_out);
    char byte = 0;
    CHECK(::recv(pair.peer().number(), &byte, 1, MSG_DONTWAIT) == 0);  // closed
}

TEST_CASE("a handshake above the bound waits until another one has ended", "[net][tls]") {
    ring loop;
    socket_pair silent;
    tls_server_options options = server_options();
    options.handshake_count_max = 1;
    bool connected = false;
    auto body = [&]() -> task<void> {
        const tls_context context = tls_context::server(options).value();
        const std::string hello = co_await first_message(loop);
        silent.send_from_peer(hello);
        std::error_code first_error;
        auto connect = [&]() -> task<void> {
            const two_streams both =
                co_await handshake(two_sockets(loop), client_context(), context);
            connected = both.client.has_value() && both.server.has_value();
        };
        task_scope tasks(loop);
        tasks.spawn(accept_local(loop, silent, context, first_error));
        tasks.spawn(connect());
        for (int i = 0; i < 20; ++i) co_await kevring::yield();
        CHECK(context.handshake_count() == 1);
        CHECK(!connected);
        CHECK(!silent.receive_at_peer().empty());  // unread bytes would make the end a reset
        silent.close_peer();
        co_await tasks.join();
        CHECK(first_error == tls_errc::truncated);
    };

    run_on(loop, body);

    CHECK(connected);
}

TEST_CASE("clients without a whole first message keep no other client from its handshake",
          "[net][tls]") {
    ring loop;
    tls_server_options options = server_options();
    options.handshake_count_max = 1;
    options.handshake_timeout = 1h;
    auto body = [&]() -> task<void> {
        const tls_context context = tls_context::server(options).value();
        const std::string hello = co_await first_message(loop);
        std::array<socket_pair, 5> silent;
        const std::array<std::size_t, 5> sent_bytes{0, 1, 5, 9, hello.size() - 1};
        std::array<std::error_code, 5> errors;
        task_scope tasks(loop);
        for (std::size_t i = 0; i < silent.size(); ++i) {
            if (sent_bytes[i] > 0) silent[i].send_from_peer(hello.substr(0, sent_bytes[i]));
            tasks.spawn(accept_local(loop, silent[i], context, errors[i]));
        }
        co_await kevring::yield();

        const two_streams both = co_await handshake(two_sockets(loop), client_context(), context);
        CHECK(both.client.has_value());
        CHECK(both.server.has_value());
        tasks.request_stop();
        co_await tasks.join();
        for (const std::error_code& each : errors) CHECK(each == std::errc::operation_canceled);
    };

    run_on(loop, body);
}

TEST_CASE("a first message may come in several records", "[net][tls]") {
    ring loop;
    socket_pair pair;
    const std::size_t record_bytes = GENERATE(std::size_t{1}, std::size_t{3}, std::size_t{100});
    CAPTURE(record_bytes);
    std::error_code error;
    auto body = [&]() -> task<void> {
        const std::string hello = co_await first_message(loop);
        std::string sent;
        for (std::size_t i = 5; i < hello.size(); i += record_bytes) {
            const std::string part = hello.substr(i, record_bytes);
            sent.append(hello, 0, 3).append(1, '\0').append(1, static_cast<char>(part.size()));
            sent += part;
        }
        task_scope tasks(loop);
        tasks.spawn(accept_local(loop, pair, server_context(), error));
        pair.send_from_peer(sent);
        while (pair.receive_at_peer().empty()) co_await kevring::yield();  // the server's answer
        pair.close_peer();
        co_await tasks.join();
    };

    run_on(loop, body);

    CHECK(error == tls_errc::truncated);
}

TEST_CASE("a client that stops in its handshake gives its place to one that waits", "[net][tls]") {
    slow_clock clock;
    ring loop(kevring::ring_options(), clock);
    socket_pair stalled;
    tls_server_options options = server_options();
    options.handshake_count_max = 1;
    options.handshake_timeout = 1h;
    auto body = [&]() -> task<void> {
        const tls_context context = tls_context::server(options).value();
        const std::string hello = co_await first_message(loop);
        stalled.send_from_peer(hello);
        std::error_code error;
        bool connected = false;
        auto connect = [&]() -> task<void> {
            const two_streams both =
                co_await handshake(two_sockets(loop), client_context(), context);
            connected = both.client.has_value() && both.server.has_value();
        };
        // Half a second at a time.
        auto pass = [&](int count) -> task<void> {
            for (int i = 0; i < count && !error; ++i) {
                clock.advance(500ms);
                for (int iteration = 0; iteration < 10; ++iteration) co_await kevring::yield();
            }
        };
        task_scope tasks(loop);
        tasks.spawn(accept_local(loop, stalled, context, error));
        co_await pass(10);  // no other client waits: it keeps its place
        CHECK(context.handshake_count() == 1);
        CHECK(!error);

        tasks.spawn(connect());
        co_await pass(20);

        CHECK(error == std::errc::timed_out);
        co_await tasks.join();
        CHECK(connected);
    };

    run_on(loop, body);
}

TEST_CASE("an error in the first message ends the handshake", "[net][tls]") {
    ring loop;
    socket_pair pair;
    const std::string_view sent = GENERATE(std::string_view(), std::string_view("\x16\x03", 2));
    if (!sent.empty()) pair.send_from_peer(sent);
    pair.close_peer();
    std::error_code error;
    auto body = [&]() -> task<void> { co_await accept_local(loop, pair, server_context(), error); };

    run_on(loop, body);

    CHECK(error == tls_errc::truncated);
}

TEST_CASE("a stopped receive loses no byte", "[net][tls]") {
    ring loop;
    std::string received;
    auto body = [&]() -> task<void> {
        two_streams both = co_await connected_streams(loop);
        const auto stopped = co_await kevring::with_timeout(both.server->receive(), 1ms);
        CHECK(stopped.error() == std::errc::timed_out);
        const auto sent = co_await both.client->send("kept");
        CHECK(sent.has_value());
        {
            auto limit = co_await kevring::within(1h);
            limit.scope().request_stop();  // before the await
            const auto before = co_await both.server->receive();
            CHECK(before.error() == std::errc::operation_canceled);
        }
        received = co_await receive_bytes(*both.server, 4);
    };

    run_on(loop, body);

    CHECK(received == "kept");
}

TEST_CASE("after a stopped send the stream continues with the bytes that were encrypted",
          "[net][tls]") {
    ring loop;
    const std::string large = pattern(4 << 20);
    std::string received;
    std::size_t accepted_bytes = 0;
    auto body = [&]() -> task<void> {
        two_streams both = co_await connected_streams(loop);
        // The client receives nothing for now.
        const auto stopped = co_await kevring::with_timeout(both.server->send(large), 5ms);
        CHECK(stopped.error() == std::errc::timed_out);
        accepted_bytes = stopped.bytes_sent();
        CHECK(accepted_bytes < large.size());
        auto receive = [&]() -> task<void> {
            received = co_await receive_bytes(*both.client, accepted_bytes + 4);
        };
        task_scope tasks(loop);
        tasks.spawn(receive());
        const auto sent = co_await both.server->send("next");
        CHECK(sent.has_value());
        co_await tasks.join();
    };

    run_on(loop, body);

    CHECK((received == large.substr(0, accepted_bytes) + "next"));
}

TEST_CASE("close ends although the peer receives nothing, and ends pending awaits", "[net][tls]") {
    ring loop;
    auto body = [&]() -> task<void> {
        two_streams both = co_await connected_streams(loop);
        const std::string large(4 << 20, 'x');
        std::error_code send_error;
        std::error_code receive_error;
        auto send = [&]() -> task<void> {
            const auto sent = co_await both.server->send(large);
            send_error = sent.error();
        };
        auto receive = [&]() -> task<void> {
            const auto received = co_await both.server->receive();
            receive_error = received.error();
        };
        task_scope tasks(loop);
        tasks.spawn(send());
        tasks.spawn(receive());
        co_await kevring::yield();
        co_await both.server->close(1ms);
        co_await tasks.join();
        CHECK(send_error == std::errc::operation_canceled);
        CHECK(receive_error == std::errc::operation_canceled);
        const auto after = co_await both.server->receive();
        CHECK(after.error() == std::errc::bad_file_descriptor);
        const auto sent = co_await both.server->send("x");
        CHECK(sent.error() == std::errc::bad_file_descriptor);
    };

    run_on(loop, body);
}

TEST_CASE("close sends a close_notify also where the scope was stopped", "[net][tls]") {
    ring loop;
    auto body = [&]() -> task<void> {
        two_streams both = co_await connected_streams(loop);
        {
            auto limit = co_await kevring::within(1h);
            limit.scope().request_stop();
            co_await both.client->close();
        }
        const auto last = co_await both.server->receive();
        CHECK((last.has_value() && last->empty()));
    };

    run_on(loop, body);
}

TEST_CASE("short sends of the kernel, and its errors, reach the caller as those of a socket",
          "[net][tls]") {
    scripted_kernel kernel;
    ring loop(kevring::ring_options(), kernel);
    auto body = [&]() -> task<void> {
        two_streams both = co_await connected_streams(loop);
        kernel.shorten(IORING_OP_SEND, 3);
        const auto sent = co_await both.client->send("in small pieces");
        CHECK(sent.value() == 15);
        const std::string pieces = co_await receive_bytes(*both.server, 15);
        CHECK(pieces == "in small pieces");
        kernel.fail(IORING_OP_SEND, ECONNRESET);
        const auto failed = co_await both.client->send("lost");
        CHECK(failed.error() == std::errc::connection_reset);
        kernel.fail(IORING_OP_RECV, ETIMEDOUT);
        const auto received = co_await both.client->receive();
        CHECK(received.error() == std::errc::timed_out);
    };

    run_on(loop, body);
}
