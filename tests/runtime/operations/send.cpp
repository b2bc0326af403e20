// send.cpp: a send ends with all of its bytes sent, or with an error and the number of bytes sent.
#include "tests/support/catch.hpp"
#include "tests/support/run_on.hpp"
#include "tests/support/scripted_kernel.hpp"
#include "tests/support/socket_pair.hpp"

#include <kevring/runtime/operations/receive.hpp>
#include <kevring/runtime/operations/send.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>

using kevring::ring;
using kevring::send_message_operation;
using kevring::send_operation;
using kevring::send_result;
using kevring::task;
using namespace std::chrono_literals;

namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
    return std::as_bytes(std::span(text));
}

// A text in several parts, some of them empty.
struct message {
    explicit message(std::string& text) {
        const std::array<std::size_t, 5> lengths{1, 0, text.size() / 2, 0, text.size()};
        std::size_t begin = 0;
        for (std::size_t i = 0; i < lengths.size(); ++i) {
            const std::size_t length = std::min(lengths[i], text.size() - begin);
            parts[i] = {text.data() + begin, length};
            begin += length;
        }
        header.msg_iov = parts.data();
        header.msg_iovlen = parts.size();
    }

    std::array<iovec, 5> parts{};
    msghdr header{};
};

// Sends `text` as one buffer or as a message of several.
template <class Await>
auto with_either(bool several, ring& loop, kevring::fd_ref socket, std::string& text,
                 std::stop_token stop, Await await) {
    message parts(text);
    if (several) {
        send_message_operation send(loop, socket, parts.header, 0, std::move(stop));
        return await(send);
    }
    send_operation send(loop, socket, bytes_of(text), 0, std::move(stop));
    return await(send);
}

// Named coroutines: g++ 12 copies a request that a nested lambda awaits by reference.
template <class Request>
task<send_result> await_send(Request& send) {
    const send_result result = co_await send;
    co_return result;
}

template <class Request>
task<send_result> await_send_within(Request& send, std::chrono::milliseconds duration) {
    const auto limit = co_await kevring::within(duration);
    const send_result result = co_await send;
    co_return result;
}

std::string received(const socket_pair& sockets) {
    std::string all;
    for (std::string more = sockets.receive_at_peer(); !more.empty();
         more = sockets.receive_at_peer())
        all += more;
    return all;
}

void narrow(const socket_pair& sockets) {
    const int bytes = 65'536;  // less than the texts below, on any machine
    REQUIRE(::setsockopt(sockets.local().number(), SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes) ==
            0);
}

}  // namespace

TEST_CASE("a send continues after each short count", "[runtime][send]") {
    const std::uint32_t limit = GENERATE(1U, 3U, 5U, 9U, 10U, 100U);
    const bool several = GENERATE(false, true);
    CAPTURE(limit, several);
    scripted_kernel script;
    script.shorten(IORING_OP_SEND, limit);
    script.shorten(IORING_OP_SENDMSG, limit);
    ring loop({}, script);
    const socket_pair sockets;
    std::string text = "0123456789";

    const send_result sent = with_either(several, loop, sockets.local(), text, {}, [&](auto& send) {
        return run_on(loop, [&] { return await_send(send); });
    });

    REQUIRE(sent.has_value());
    CHECK(*sent == 10);
    CHECK(sent.bytes_sent() == 10);
    CHECK(received(sockets) == text);
    const unsigned requests = script.submitted(several ? IORING_OP_SENDMSG : IORING_OP_SEND);
    CHECK(requests >= (10 + limit - 1) / limit);
}

TEST_CASE("a send that is stopped after its first bytes fails and reports their number",
          "[runtime][send]") {
    const bool several = GENERATE(false, true);
    CAPTURE(several);
    ring loop;
    const socket_pair sockets;
    narrow(sockets);
    std::string text(4 << 20, 's');
    std::stop_source stop;
    auto act = [&] { stop.request_stop(); };

    const send_result sent = with_either(
        several, loop, sockets.local(), text, stop.get_token(),
        [&](auto& send) { return run_on(loop, [&] { return finish(loop, send, act); }); });

    REQUIRE_FALSE(sent.has_value());
    CHECK(sent.error() == std::errc::operation_canceled);
    CHECK(sent.bytes_sent() > 0);
    CHECK(sent.bytes_sent() < text.size());
    CHECK(received(sockets).size() == sent.bytes_sent());
}

TEST_CASE("a send that reaches its deadline after its first bytes fails and reports their number",
          "[runtime][send]") {
    const bool several = GENERATE(false, true);
    CAPTURE(several);
    ring loop;
    const socket_pair sockets;
    narrow(sockets);
    std::string text(4 << 20, 's');

    const send_result sent = with_either(several, loop, sockets.local(), text, {}, [&](auto& send) {
        return run_on(loop, [&] { return await_send_within(send, 10ms); });
    });

    REQUIRE_FALSE(sent.has_value());
    CHECK(sent.error() == std::errc::timed_out);
    CHECK(sent.bytes_sent() > 0);
    CHECK(received(sockets).size() == sent.bytes_sent());
}

TEST_CASE("a send whose peer disconnects after the first bytes fails and reports their number",
          "[runtime][send]") {
    const bool several = GENERATE(false, true);
    CAPTURE(several);
    ring loop;
    socket_pair sockets;
    narrow(sockets);
    std::string text(4 << 20, 's');
    auto act = [&] { sockets.close_peer(); };

    const send_result sent = with_either(several, loop, sockets.local(), text, {}, [&](auto& send) {
        return run_on(loop, [&] { return finish(loop, send, act); });
    });

    REQUIRE_FALSE(sent.has_value());
    const bool is_disconnect =
        sent.error() == std::errc::broken_pipe || sent.error() == std::errc::connection_reset;
    CHECK(is_disconnect);
    CHECK(sent.bytes_sent() > 0);
    CHECK(sent.bytes_sent() < text.size());
}

TEST_CASE("no step of a send begins after a stop", "[runtime][send]") {
    scripted_kernel script;
    script.shorten(IORING_OP_SEND, 3);
    script.hold(IORING_OP_SEND);
    ring loop({}, script);
    const socket_pair sockets;
    std::stop_source stop;
    send_operation send(loop, sockets.local(), bytes_of("0123456789"), 0, stop.get_token());
    auto act = [&] {
        stop.request_stop();
        script.release();
    };

    const send_result sent = run_on(loop, [&] { return finish(loop, send, act); });

    CHECK_FALSE(sent.has_value());
    CHECK(sent.error() == std::errc::operation_canceled);
    CHECK(sent.bytes_sent() == 3);
    CHECK(script.submitted(IORING_OP_SEND) == 1);
    CHECK(received(sockets) == "012");
}

TEST_CASE("a stop after the last byte does not fail a send", "[runtime][send]") {
    scripted_kernel script;
    script.hold(IORING_OP_SEND);
    ring loop({}, script);
    const socket_pair sockets;
    std::stop_source stop;
    send_operation send(loop, sockets.local(), bytes_of("0123456789"), 0, stop.get_token());
    auto act = [&] {
        stop.request_stop();
        script.release();
    };

    const send_result sent = run_on(loop, [&] { return finish(loop, send, act); });

    REQUIRE(sent.has_value());
    CHECK(*sent == 10);
}

// Bytes that have just come are in the caches of the processor, and are sent from there. The messages
// of a source are sent in one batch with those of others.
TEST_CASE("a large message that has just come is sent without a request, and one of a source with",
          "[runtime][send]") {
    scripted_kernel script;
    ring loop({}, script);
    const socket_pair sockets;
    const std::string text(64 << 10, 's');
    std::array<std::byte, 8> received_bytes;
    const auto requests = [&] { return script.submitted(IORING_OP_SEND); };
    const auto pass_on = [&]() -> task<void> {
        kevring::receive_operation receive(loop, sockets.local(), received_bytes);
        const auto count = co_await receive;
        REQUIRE(count.has_value());
        send_operation first(loop, sockets.local(), bytes_of(text));
        const send_result passed_on = co_await first;
        CHECK(passed_on.bytes_sent() == text.size());
        CHECK(requests() == 0);
        send_operation second(loop, sockets.local(), bytes_of(text));
        const send_result made = co_await second;
        CHECK(made.bytes_sent() == text.size());
        CHECK(requests() == 1);
    };
    sockets.send_from_peer("ask");

    run_on(loop, pass_on);

    CHECK(received(sockets).size() == 2 * text.size());
}

TEST_CASE("a send of no bytes succeeds", "[runtime][send]") {
    const bool several = GENERATE(false, true);
    CAPTURE(several);
    ring loop;
    const socket_pair sockets;
    std::string text;

    const send_result sent = with_either(several, loop, sockets.local(), text, {}, [&](auto& send) {
        return run_on(loop, [&] { return await_send(send); });
    });

    REQUIRE(sent.has_value());
    CHECK(*sent == 0);
}

// The kernel moves 0x7ffff000 bytes in one request, and the length of a request has 32 bits. A
// length that wraps round to a small one would be a send that succeeds with a part of its bytes.
TEST_CASE("a length beyond one request never succeeds with a part of the bytes",
          "[runtime][send]") {
    const std::size_t byte_count = GENERATE(std::size_t{SIZE_MAX}, std::size_t{1} << 32,
                                            (std::size_t{1} << 32) + 10, std::size_t{SSIZE_MAX});
    CAPTURE(byte_count);
    ring loop;
    const socket_pair sockets;
    const char* const nowhere = reinterpret_cast<const char*>(4096);

    const send_result sent = run_on(loop, [&]() -> task<send_result> {
        send_operation send(loop, sockets.local(),
                            {reinterpret_cast<const std::byte*>(nowhere), byte_count});
        const send_result result = co_await send;
        co_return result;
    });

    CHECK_FALSE(sent.has_value());
    CHECK(sent.error() == std::errc::bad_address);
    CHECK(sent.bytes_sent() == 0);
}
