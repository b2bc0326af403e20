// Bytes in the types of programs and of Asio, wherever bytes are sent or written.
#include "tests/support/catch.hpp"
#include "tests/support/file_support.hpp"
#include "tests/support/run_on.hpp"
#include "tests/support/socket_pair.hpp"

#include <kevring/net/datagram_reply.hpp>
#include <kevring/net/datagram_socket.hpp>
#include <kevring/net/descriptor_passing.hpp>
#include <kevring/net/outbox.hpp>
#include <kevring/net/seqpacket.hpp>
#include <kevring/net/socket.hpp>
#include <kevring/net/stream.hpp>
#include <kevring/net/tls_stream.hpp>
#include <kevring/runtime/byte_views.hpp>
#include <kevring/runtime/file_replacement.hpp>
#include <kevring/runtime/pipe.hpp>
#include <kevring/runtime/stdio_stream.hpp>
#include <kevring/runtime/task_scope.hpp>
#include <kevring/sendfile/send_options.hpp>

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

TEST_CASE("views and lists are divided into segments as plain bytes are",
          "[net][datagram][byte_views]") {
    ring loop;
    auto body = [&]() -> task<void> {
        auto receiver = kevring::datagram_socket::bind(kevring::endpoint::loopback(0));
        auto sender = kevring::datagram_socket::open(AF_INET);
        REQUIRE((receiver.has_value() && sender.has_value()));
        const kevring::endpoint address = receiver->local().value();
        const int peer = receiver->native().number();
        const auto check_segments = [&](const kevring::result<std::size_t>& sent) {
            CHECK(sent.value() == 11);
            CHECK(received_on(peer) == "onet");
            CHECK(received_on(peer) == "woth");
            CHECK(received_on(peer) == "ree");
        };
        const inputs given;
        const std::string_view text = "onetwothree";
        const std::vector<unsigned char> octets(text.begin(), text.end());
        const std::vector<char> characters(text.begin(), text.end());
        check_segments(co_await sender->send_to(octets, address, 4));
        check_segments(co_await sender->send_to(asio::buffer(text), address, 4));
        check_segments(co_await sender->send_to(given.strings, address, 4));
        check_segments(co_await sender->send_to(given.buffers, address, 4));
        const auto connected = sender->connect(address);
        CHECK(connected.has_value());
        check_segments(co_await sender->send(characters, 4));
        check_segments(co_await sender->send(given.mutable_buffers, 4));
        check_segments(co_await sender->send(given.spans, 4));
        const auto whole = co_await sender->send(given.buffers);
        CHECK(whole.value() == 11);
        CHECK(received_on(peer) == "onetwothree");
    };
    run_on(loop, body);
}

TEST_CASE("an answer and a message with descriptors take views", "[net][datagram][byte_views]") {
    ring loop;
    auto body = [&]() -> task<void> {
        const inputs given;
        auto server =
            kevring::datagram_socket::bind(kevring::endpoint::loopback(0), {.packet_info = true});
        auto client = kevring::datagram_socket::bind(kevring::endpoint::loopback(0));
        REQUIRE((server.has_value() && client.has_value()));
        const kevring::endpoint address = server->local().value();
        const auto asked = co_await client->send_to(given.text, address);
        CHECK(asked.value() == 3);
        std::array<std::byte, 16> buffer{};
        const auto request = co_await server->receive_from(buffer);
        REQUIRE(request.has_value());
        const auto answered = co_await kevring::reply(*server, *request, given.octets);
        CHECK(answered.value() == 3);
        CHECK(received_on(client->native().number()) == "two");

        auto ends = unix_pair(SOCK_STREAM);
        const std::array<kevring::fd_ref, 1> passed{ends[0]};
        const auto bytes = asio::buffer(given.last);
        const auto sent = co_await kevring::send_descriptors(loop, ends[0], bytes, passed);
        CHECK(sent.value() == 5);
        const auto received = co_await kevring::receive_descriptors(loop, ends[1], buffer, 1);
        REQUIRE(received.has_value());
        CHECK(received->descriptors.size() == 1);
        CHECK(text_of(std::span(buffer).first(received->byte_count)) == "three");
    };
    run_on(loop, body);
}

TEST_CASE("a file is written from views and lists, at its position and at an offset",
          "[runtime][file][byte_views]") {
    const scratch_folder folder;
    ring loop;
    auto body = [&]() -> task<void> {
        const inputs given;
        const kevring::directory here = folder.opened(loop);
        const std::vector<std::byte> bytes(3, std::byte{'b'});
        const std::vector<char> characters{'c', 'h', 'a', 'r'};
        const kevring::open_options options{.access = kevring::file_access::write, .create = true};
        auto opened = co_await here.open_file("file", options);
        REQUIRE(opened.has_value());
        const auto check = [&](const kevring::result<void>& written, const std::string& content) {
            CHECK(written.has_value());
            CHECK(folder.read("file") == content);
        };
        check(co_await opened->write_all(given.octets), "two");
        check(co_await opened->write_all(bytes), "twobbb");
        check(co_await opened->write_all(characters), "twobbbchar");
        check(co_await opened->write_all(asio::buffer(given.text)), "twobbbcharone");
        check(co_await opened->write_all(given.strings), "twobbbcharoneonetwothree");
        check(co_await opened->write_all(given.octets, 3), "twotwocharoneonetwothree");
        check(co_await opened->write_all(given.buffers, 6), "twotwoonetwothreewothree");
        // An offset has left the position where it was.
        const auto count = co_await opened->write(given.octets);
        CHECK(count.value() == 3);
        check(co_await kevring::write_all(*opened, given.spans),
              "twotwoonetwothreewothreetwoonetwothree");

        const auto replaced = co_await kevring::replace_file(here, "file", given.octets);
        check(replaced, "two");
        const auto text = co_await kevring::replace_file(here, "file", "text");
        check(text, "text");
    };
    run_on(loop, body);
}

TEST_CASE("a header of a transfer refers to views", "[sendfile][byte_views]") {
    const inputs given;
    const asio::const_buffer last = asio::buffer(given.last);
    const kevring::send_buffers octets = given.octets;
    const kevring::send_buffers buffer = last;
    CHECK(text_of(octets[0]) == "two");
    CHECK(text_of(buffer[0]) == "three");
    CHECK(buffer[0].data() == last.data());
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
