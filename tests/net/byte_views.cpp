// Bytes in the types of programs and of Asio, wherever bytes are sent or written.
#include "tests/support/catch.hpp"
#include "tests/support/run_on.hpp"
#include "tests/support/socket_pair.hpp"

#include <kevring/net/datagram_socket.hpp>
#include <kevring/net/outbox.hpp>
#include <kevring/net/seqpacket.hpp>
#include <kevring/net/socket.hpp>
#include <kevring/net/stream.hpp>
#include <kevring/net/tls_stream.hpp>
#include <kevring/runtime/byte_views.hpp>
#include <kevring/runtime/pipe.hpp>
#include <kevring/runtime/stdio_stream.hpp>
#include <kevring/runtime/task_scope.hpp>

#include <asio/buffer.hpp>

#include <array>
#include <cstddef>
#include <list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <sys/socket.h>
#include <unistd.h>

using kevring::byte_view;
using kevring::byte_view_list;
using kevring::bytes_of;
using kevring::ring;
using kevring::task;

namespace {

// Each element of a list of what the calls accept: "one", "two", "three".
struct inputs {
    std::string text = "one";
    std::vector<unsigned char> octets{'t', 'w', 'o'};
    std::string last = "three";
    std::array<asio::const_buffer, 3> buffers{asio::buffer(text), asio::buffer(octets),
                                              asio::buffer(last)};
    std::vector<asio::mutable_buffer> mutable_buffers{asio::buffer(text), asio::buffer(octets),
                                                      asio::buffer(last)};
    std::list<std::string> strings{"one", "", "two", "three"};
    std::array<std::span<const char>, 2> spans{std::span<const char>("onetwo", 6),
                                               std::span<const char>(last)};
};

std::string text_of(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// All that the peer of a blocking descriptor has sent until now; one message of a datagram socket.
std::string received_on(int descriptor) {
    std::string bytes(4096, '\0');
    const ssize_t count = ::read(descriptor, bytes.data(), bytes.size());
    REQUIRE(count >= 0);
    bytes.resize(static_cast<std::size_t>(count));
    return bytes;
}

std::array<kevring::fd, 2> unix_pair(int type) {
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends) == 0);
    return {kevring::fd(ends[0]), kevring::fd(ends[1])};
}

}  // namespace

static_assert(byte_view<asio::const_buffer> && byte_view<asio::mutable_buffer>);
static_assert(byte_view<std::vector<char>> && byte_view<std::span<unsigned char>>);
static_assert(byte_view<std::array<unsigned char, 4>> && byte_view<std::vector<signed char>>);
static_assert(!byte_view<std::string> && !byte_view<const char*> && !byte_view<char[4]>);
static_assert(!byte_view<std::vector<std::byte>> && !byte_view<std::vector<int>>);
static_assert(byte_view_list<std::array<asio::const_buffer, 2>>);
static_assert(byte_view_list<std::vector<std::string>> && byte_view_list<std::list<std::string>>);
static_assert(!byte_view_list<std::string> && !byte_view_list<std::vector<int>>);
static_assert(!byte_view_list<asio::const_buffer> && !byte_view_list<std::vector<char>>);

TEST_CASE("the bytes of any view are those that it refers to", "[runtime][byte_views]") {
    const inputs given;
    CHECK(text_of(bytes_of(given.text)) == "one");
    CHECK(text_of(bytes_of("one")) == "one");
    CHECK(text_of(bytes_of(given.octets)) == "two");
    CHECK(text_of(bytes_of(asio::buffer(given.last, 2))) == "th");
    CHECK(text_of(bytes_of(given.mutable_buffers[1])) == "two");
    CHECK(text_of(bytes_of(given.spans[0])) == "onetwo");
    CHECK(bytes_of(asio::const_buffer()).empty());
}

TEST_CASE("a socket sends views and lists in order", "[net][byte_views]") {
    ring loop;
    auto body = [&]() -> task<void> {
        const inputs given;
        auto ends = unix_pair(SOCK_STREAM);
        kevring::socket target(loop, std::move(ends[0]));
        const auto check = [&](const auto& sent, const std::string& expected) {
            CHECK(sent.value() == expected.size());
            CHECK(received_on(ends[1].number()) == expected);
        };
        check(co_await target.send(asio::buffer(given.text)), "one");
        check(co_await target.send(given.octets), "two");
        check(co_await target.send(given.buffers), "onetwothree");
        check(co_await target.send(given.mutable_buffers), "onetwothree");
        check(co_await target.send(given.strings), "onetwothree");
        check(co_await target.send(given.spans), "onetwothree");
        const std::vector<std::string_view> many(1500, "x");  // more than one sendmsg(2) takes
        check(co_await target.send(many), std::string(1500, 'x'));
        const std::array<asio::const_buffer, 2> nothing;
        const kevring::send_result none = co_await target.send(nothing);
        CHECK(none.value() == 0);
        ends[1].reset();
        const kevring::send_result failed = co_await target.send(given.buffers);
        CHECK(failed.error() == std::errc::broken_pipe);
        CHECK(failed.bytes_sent() == 0);

        auto written_ends = unix_pair(SOCK_STREAM);
        kevring::socket stream(loop, std::move(written_ends[0]));
        const auto one = co_await kevring::write_all(stream, asio::buffer(given.text));
        const auto all = co_await kevring::write_all(stream, given.buffers);
        CHECK((one.has_value() && all.has_value()));
        CHECK(received_on(written_ends[1].number()) == "oneonetwothree");
    };
    run_on(loop, body);
}

TEST_CASE("an outbox queues all bytes of a list, or none", "[net][outbox][byte_views]") {
    ring loop;
    auto body = [&]() -> task<void> {
        const inputs given;
        auto ends = unix_pair(SOCK_STREAM);
        kevring::socket target(loop, std::move(ends[0]));
        kevring::outbox box(target, {.byte_count_max = 25});
        const auto wrote = co_await box.write(given.buffers);
        CHECK(wrote.has_value());
        const auto buffer = co_await box.write(asio::buffer(given.octets));
        CHECK(buffer.has_value());
        CHECK(box.try_write(given.octets));
        CHECK_FALSE(box.try_write(given.strings));  // 17 of 25 bytes are held
        CHECK(box.held_bytes() == 17);
        const std::vector<std::string> large(2, std::string(20, 'x'));
        const auto refused = co_await box.write(large);
        CHECK(refused.error() == std::errc::message_size);
        CHECK(box.try_write(asio::buffer(given.text)));

        kevring::task_scope tasks(loop);
        auto run = [&]() -> task<void> { static_cast<void>(co_await box.run()); };
        tasks.spawn(run());
        const auto waited = co_await box.write(given.strings);  // until 20 bytes have been sent
        CHECK(waited.has_value());
        const auto flushed = co_await box.flush();
        CHECK(flushed.has_value());
        CHECK(received_on(ends[1].number()) == "onetwothreetwotwooneonetwothree");
        tasks.request_stop();
        co_await tasks.join();
    };
    run_on(loop, body);
}

TEST_CASE("a datagram of a list is one message", "[net][datagram][byte_views]") {
    ring loop;
    auto body = [&]() -> task<void> {
        const inputs given;
        auto pair = kevring::datagram_socket::pair(SOCK_DGRAM);
        REQUIRE(pair.has_value());
        kevring::datagram_socket& target = pair->first;
        const int peer = pair->second.native().number();
        const auto view = co_await target.send(asio::buffer(given.text));
        const auto list = co_await target.send(given.buffers);
        CHECK(view.value() == 3);
        CHECK(list.value() == 11);
        CHECK(received_on(peer) == "one");
        CHECK(received_on(peer) == "onetwothree");

        auto receiver = kevring::datagram_socket::bind(kevring::endpoint::loopback(0));
        auto sender = kevring::datagram_socket::open(AF_INET);
        REQUIRE((receiver.has_value() && sender.has_value()));
        const kevring::endpoint address = receiver->local().value();
        const auto one = co_await sender->send_to(given.octets, address);
        const auto all = co_await sender->send_to(given.strings, address);
        CHECK(one.value() == 3);
        CHECK(all.value() == 11);
        CHECK(received_on(receiver->native().number()) == "two");
        CHECK(received_on(receiver->native().number()) == "onetwothree");

        auto packets = unix_pair(SOCK_SEQPACKET);
        kevring::seqpacket_socket connected(loop, std::move(packets[0]));
        const auto packet = co_await connected.send(asio::buffer(given.text));
        const auto joined = co_await connected.send(given.mutable_buffers);
        CHECK(packet.value() == 3);
        CHECK(joined.value() == 11);
        CHECK(received_on(packets[1].number()) == "one");
        CHECK(received_on(packets[1].number()) == "onetwothree");
    };
    run_on(loop, body);
}

TEST_CASE("pipes and streams write views", "[runtime][byte_views]") {
    ring loop;
    auto body = [&]() -> task<void> {
        const inputs given;
        auto pipe = kevring::open_pipe(loop);
        REQUIRE(pipe.has_value());
        const auto octets = co_await pipe->writer.write(given.octets);
        const auto list = co_await kevring::write_all(pipe->writer, given.buffers);
        kevring::output_stream output(loop, pipe->writer.native());
        const auto buffer = co_await output.write(asio::buffer(given.last));
        CHECK((octets.has_value() && list.has_value() && buffer.has_value()));
        CHECK(received_on(pipe->reader.native().number()) == "twoonetwothreethree");
    };
    run_on(loop, body);
}
