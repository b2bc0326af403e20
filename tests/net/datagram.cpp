// Datagrams arrive whole, with their addresses, and an empty one is a message like others.
#include "tests/support/allocations.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/descriptor_count.hpp"
#include "tests/support/run_on.hpp"
#include "tests/support/scripted_kernel.hpp"

#include <kevring/net/datagram_reply.hpp>
#include <kevring/net/datagram_socket.hpp>
#include <kevring/net/descriptor_passing.hpp>
#include <kevring/runtime/when.hpp>

#include <array>
#include <cerrno>
#include <string>
#include <string_view>
#include <vector>

#include <net/if.h>
#include <sys/socket.h>
#include <unistd.h>

using kevring::datagram_options;
using kevring::datagram_socket;
using kevring::endpoint;
using kevring::ring;
using kevring::task;
using namespace std::chrono_literals;

namespace {

std::string_view text_of(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
std::span<const std::byte> bytes_of(std::string_view text) {
    return std::as_bytes(std::span(text));
}

datagram_socket bind_loopback(const datagram_options& options = {}) {
    auto bound = datagram_socket::bind(endpoint::loopback(0), options);
    REQUIRE(bound.has_value());
    return std::move(*bound);
}

// A name that no other run of the test has.
endpoint abstract_name(const std::string& suffix) {
    return endpoint::unix_path("@kevring-test-" + std::to_string(::getpid()) + suffix).value();
}

}  // namespace

TEST_CASE("a datagram arrives with its sender, and an empty one is not the end",
          "[net][datagram]") {
    ring loop;
    auto body = [&]() -> task<void> {
        auto first = bind_loopback();
        auto second = bind_loopback();
        const endpoint to_second = second.local().value();
        for (const std::string_view text : {"abc", "", "d"}) {
            const auto sent = co_await first.send_to(text, to_second);
            CHECK(sent.value() == text.size());
        }
        std::array<std::byte, 16> buffer{};
        for (const std::string_view text : {"abc", "", "d"}) {
            const auto received = co_await second.receive_from(buffer);
            REQUIRE(received.has_value());
            CHECK(text_of(std::span(buffer).first(received->byte_count)) == text);
            CHECK(received->peer == first.local().value());
            CHECK_FALSE(received->truncated);
        }
    };
    run_on(loop, body);
}

TEST_CASE("datagrams in pooled buffers keep their order and their sizes", "[net][datagram]") {
    ring loop;
    auto body = [&]() -> task<void> {
        auto first = bind_loopback();
        auto second = bind_loopback();
        const endpoint to_second = second.local().value();
        // More than the stream holds while no receive waits: the rest stays with the kernel.
        constexpr int count = 100;
        for (int i = 0; i < count; ++i) {
            const std::string text(static_cast<std::size_t>(i), 'x');
            const auto sent = co_await first.send_to(text, to_second);
            CHECK(sent.has_value());
        }
        for (int i = 0; i < count; ++i) {
            auto received = co_await second.receive_from();
            REQUIRE(received.has_value());
            CHECK(received->payload.size() == static_cast<std::size_t>(i));
            CHECK(received->byte_count == static_cast<std::size_t>(i));
            CHECK(received->peer == first.local().value());
        }
    };
    run_on(loop, body);
}

TEST_CASE("a message that is too long is cut and reports it", "[net][datagram]") {
    ring loop;
    auto body = [&]() -> task<void> {
        auto first = bind_loopback();
        auto second = bind_loopback();
        auto third = bind_loopback();
        kevring::buffer_pool pool(loop, {.buffer_bytes = 512});
        third.use_pool(pool);
        const std::string text(1000, 'x');
        const endpoint to_second = second.local().value();
        const endpoint to_third = third.local().value();
        static_cast<void>(co_await first.send_to(text, to_second));
        static_cast<void>(co_await first.send_to(text, to_third));
        static_cast<void>(co_await first.send_to("b", to_third));

        std::array<std::byte, 16> buffer{};
        const auto cut = co_await second.receive_from(buffer);
        CHECK(cut.value().truncated);
        CHECK(cut.value().byte_count == 16);
        auto pooled = co_await third.receive_from();
        CHECK(pooled.value().truncated);
        CHECK(pooled.value().payload.size() == 512 - 16 - 128 - datagram_socket::control_bytes);
        auto next = co_await third.receive_from();
        CHECK_FALSE(next.value().truncated);
        CHECK(text_of(next.value().payload) == "b");
    };
    run_on(loop, body);
}

TEST_CASE("a connected socket has one peer, and reports that no socket listens",
          "[net][datagram]") {
    ring loop;
    auto body = [&]() -> task<void> {
        auto socket = bind_loopback();
        const auto unconnected = co_await socket.send("a");
        CHECK(unconnected.error() == std::errc::destination_address_required);
        endpoint closed_address;
        {
            auto ended = bind_loopback();
            closed_address = ended.local().value();
        }
        REQUIRE(socket.connect(closed_address).has_value());
        const auto sent = co_await socket.send("a");
        CHECK(sent.has_value());
        std::array<std::byte, 16> buffer{};
        const auto refused = co_await socket.receive_from(buffer);
        CHECK(refused.error() == std::errc::connection_refused);

        auto peer = bind_loopback();
        auto stranger = bind_loopback();
        REQUIRE(socket.connect(peer.local().value()).has_value());
        const endpoint to_socket = socket.local().value();
        const auto not_received = co_await stranger.send_to("stranger", to_socket);
        static_cast<void>(not_received);
        const auto from_peer = co_await peer.send_to("peer", to_socket);
        CHECK(from_peer.has_value());
        const auto received = co_await socket.receive_from(buffer);
        CHECK(received.value().peer == peer.local().value());
        CHECK(socket.disconnect().has_value());
        const auto again = co_await socket.send("a");
        CHECK_FALSE(again.has_value());
    };
    run_on(loop, body);
}

TEST_CASE("a pooled receive continues after connection_refused", "[net][datagram]") {
    ring loop;
    auto body = [&]() -> task<void> {
        auto socket = bind_loopback();
        endpoint closed_address;
        {
            auto ended = bind_loopback();
            closed_address = ended.local().value();
        }
        REQUIRE(socket.connect(closed_address).has_value());
        const auto sent = co_await socket.send("a");
        CHECK(sent.has_value());
        const auto refused = co_await socket.receive_from();
        CHECK(refused.error() == std::errc::connection_refused);
        auto peer = datagram_socket::bind(closed_address);
        REQUIRE(peer.has_value());
        const endpoint to_socket = socket.local().value();
        static_cast<void>(co_await peer->send_to("b", to_socket));
        auto received = co_await socket.receive_from();
        CHECK(text_of(received.value().payload) == "b");
    };
    run_on(loop, body);
}

TEST_CASE("one send is divided into segments, which one receive may join", "[net][datagram]") {
    ring loop;
    auto body = [&]() -> task<void> {
        auto first = bind_loopback();
        auto second = bind_loopback();
        auto joined = bind_loopback({.receive_offload = true});
        const std::string text(2500, 'x');
        const endpoint to_second = second.local().value();
        const endpoint to_joined = joined.local().value();
        const auto sent = co_await first.send_to(bytes_of(text), to_second, 1000);
        CHECK(sent.value() == 2500);
        std::array<std::byte, 4096> buffer{};
        for (const std::size_t byte_count : {1000, 1000, 500}) {
            const auto received = co_await second.receive_from(buffer);
            CHECK(received.value().byte_count == byte_count);
        }
        static_cast<void>(co_await first.send_to(bytes_of(text), to_joined, 1000));
        std::size_t total = 0;
        while (total < 2500) {
            const auto received = co_await joined.receive_from(buffer);
            REQUIRE(received.has_value());
            if (received->byte_count > 1000) CHECK(received->segment_bytes == 1000);
            total += received->byte_count;
        }
        CHECK(total == 2500);
    };
    run_on(loop, body);
}

TEST_CASE("packet information names the destination and the interface", "[net][datagram]") {
    ring loop;
    auto body = [&]() -> task<void> {
        auto any = datagram_socket::bind(endpoint::parse("*:0").value(), {.packet_info = true});
        REQUIRE(any.has_value());
        auto sender = bind_loopback();
        auto destination = endpoint::parse("127.0.0.2:0").value();
        destination.set_port(any->local().value().port());
        static_cast<void>(co_await sender.send_to("a", destination));
        std::array<std::byte, 16> buffer{};
        const auto received = co_await any->receive_from(buffer);
        CHECK(received.value().local == endpoint::parse("127.0.0.2:0").value());
        CHECK(received.value().interface_index == ::if_nametoindex("lo"));

        auto pooled = datagram_socket::bind(endpoint::parse("*:0").value(), {.packet_info = true});
        REQUIRE(pooled.has_value());
        destination.set_port(pooled->local().value().port());
        static_cast<void>(co_await sender.send_to("a", destination));
        auto in_pool = co_await pooled->receive_from();
        CHECK(in_pool.value().local == endpoint::parse("127.0.0.2:0").value());
    };
    run_on(loop, body);
}

// A connected peer receives from one address only: another source would be dropped.
TEST_CASE("a reply leaves from the address that the request was sent to", "[net][datagram]") {
    scripted_kernel script;
    ring loop({}, script);
    auto body = [&]() -> task<void> {
        auto any = datagram_socket::bind(endpoint::parse("*:0").value(), {.packet_info = true});
        REQUIRE(any.has_value());
        auto peer = bind_loopback();
        auto destination = endpoint::parse("127.0.0.2:0").value();
        destination.set_port(any->local().value().port());
        REQUIRE(peer.connect(destination).has_value());
        static_cast<void>(co_await peer.send("question"));
        std::array<std::byte, 16> buffer{};
        const auto request = co_await any->receive_from(buffer);
        REQUIRE(request.has_value());

        const auto sent = co_await kevring::reply(*any, *request, "answer");

        CHECK(sent.value() == 6);
        const auto answer = co_await peer.receive_from(buffer);
        CHECK(answer.value().byte_count == 6);
        CHECK(answer.value().peer == destination);
        for (const int error : {EACCES, EINVAL, EMSGSIZE, ENETUNREACH, ENOBUFS, ENOMEM, EPERM}) {
            script.fail(IORING_OP_SENDMSG, error);
            const auto failed = co_await kevring::reply(*any, *request, "answer");
            CHECK(failed.error().value() == error);
        }
        kevring::datagram without_information;
        without_information.peer = peer.local().value();
        const auto plain = co_await kevring::reply(*any, without_information, "x");
        CHECK(plain.value() == 1);
    };
    run_on(loop, body);
}

TEST_CASE("a message to the broadcast address of a network is answered", "[net][datagram]") {
    ring loop;
    auto answer = [&](const char* bound, std::string_view broadcast) -> task<void> {
        auto any = datagram_socket::bind(endpoint::parse(bound).value(), {.packet_info = true});
        if (!any) {
            WARN("not tried: there is no IPv6 here");
            co_return;
        }
        auto peer =
            datagram_socket::bind(endpoint::parse("127.0.0.1:0").value(), {.broadcast = true});
        auto destination = endpoint::parse(broadcast).value();
        destination.set_port(any->local().value().port());
        const auto asked = co_await peer.value().send_to("question", destination);
        REQUIRE(asked.has_value());
        std::array<std::byte, 16> buffer{};
        const auto request = co_await any->receive_from(buffer);
        REQUIRE(request.has_value());
        CHECK(request->is_broadcast);

        const auto sent = co_await kevring::reply(*any, *request, "answer");

        CHECK(sent.value() == 6);
        const auto received = co_await peer->receive_from(buffer);
        CHECK(received.value().byte_count == 6);
    };
    for (const char* bound : {"0.0.0.0:0", "[::]:0"})
        run_on(loop, [&] { return answer(bound, "127.255.255.255:0"); });
}

TEST_CASE("an IPv6 socket reports the destination, the interface and the scope",
          "[net][datagram]") {
    ring loop;
    auto body = [&]() -> task<void> {
        auto any = datagram_socket::bind(endpoint::parse("[::]:0").value(), {.packet_info = true});
        auto peer = datagram_socket::bind(endpoint::parse("[::1]:0").value());
        if (!any || !peer) {
            WARN("not tried: there is no IPv6 here");
            co_return;
        }
        auto destination = endpoint::parse("[::1]:0").value();
        destination.set_port(any->local().value().port());
        REQUIRE(peer->connect(destination).has_value());
        static_cast<void>(co_await peer->send("question"));
        std::array<std::byte, 16> buffer{};
        const auto request = co_await any->receive_from(buffer);
        REQUIRE(request.has_value());
        CHECK(request->local == endpoint::parse("[::1]:0").value());
        CHECK(request->interface_index == ::if_nametoindex("lo"));
        const auto sent = co_await kevring::reply(*any, *request, "answer");
        CHECK(sent.has_value());
        const auto answer = co_await peer->receive_from(buffer);
        CHECK(answer.value().byte_count == 6);

        // The scope of a group is the interface of the membership.
        const auto group = endpoint::parse("[ff12::77%lo]:0").value();
        const auto joined = any->join(group);
        if (joined) {
            CHECK(any->join(group).error() == std::errc::address_in_use);
            CHECK(any->leave(group).has_value());
            CHECK_FALSE(any->leave(group).has_value());
        } else {
            WARN("no IPv6 group on the loopback interface: " + joined.error().message());
        }
        CHECK_FALSE(any->join(endpoint::parse("[ff12::77%999999]:0").value()).has_value());
    };
    run_on(loop, body);
}

TEST_CASE("a member of a multicast group receives its messages until it leaves",
          "[net][datagram]") {
    ring loop;
    auto body = [&]() -> task<void> {
        const unsigned loopback = ::if_nametoindex("lo");
        auto member =
            datagram_socket::bind(endpoint::parse("*:0").value(), {.reuse_address = true});
        auto sender = datagram_socket::open(
            AF_INET,
            {.multicast_hops = 0, .multicast_loopback = true, .multicast_interface = loopback});
        REQUIRE(member.has_value());
        REQUIRE(sender.has_value());
        auto group = endpoint::parse("239.255.77.1:0").value();
        group.set_port(member->local().value().port());
        REQUIRE(member->join(group, loopback).has_value());
        CHECK(member->join(group, loopback).error() == std::errc::address_in_use);
        const auto sent = co_await sender->send_to("a", group);
        CHECK(sent.has_value());
        std::array<std::byte, 16> buffer{};
        const auto received = co_await member->receive_from(buffer);
        CHECK(received.value().byte_count == 1);
        CHECK(member->leave(group, loopback).has_value());
        CHECK_FALSE(member->leave(group, loopback).has_value());
        CHECK(member->join(abstract_name("")).error() == std::errc::invalid_argument);
        CHECK_FALSE(member->join(endpoint::loopback(1)).has_value());
    };
    run_on(loop, body);
}

TEST_CASE("a stop before, during and after a receive loses no datagram", "[net][datagram]") {
    ring loop;
    auto body = [&]() -> task<void> {
        auto first = bind_loopback();
        auto second = bind_loopback();
        const endpoint to_second = second.local().value();
        for (int round = 0; round < 3; ++round) {
            const auto before = co_await kevring::with_timeout(second.receive_from(), 0ns);
            CHECK(before.error() == std::errc::timed_out);
            const auto during = co_await kevring::with_timeout(second.receive_from(), 1ms);
            CHECK(during.error() == std::errc::timed_out);
            static_cast<void>(co_await first.send_to("a", to_second));
            auto received = co_await kevring::with_timeout(second.receive_from(), 1h);
            CHECK(text_of(received.value().payload) == "a");
        }
        std::array<std::byte, 16> buffer{};
        auto other = bind_loopback();
        auto waits = other.receive_from(buffer);
        const auto late = co_await kevring::with_timeout(std::move(waits), 1ms);
        CHECK(late.error() == std::errc::timed_out);
        const endpoint to_other = other.local().value();
        static_cast<void>(co_await first.send_to("b", to_other));
        const auto received = co_await other.receive_from(buffer);
        CHECK(received.value().byte_count == 1);
    };
    run_on(loop, body);
}

TEST_CASE("every error of a send or a receive reaches the caller", "[net][datagram]") {
    scripted_kernel script;
    ring loop({}, script);
    auto body = [&]() -> task<void> {
        auto first = bind_loopback();
        auto second = bind_loopback();
        const endpoint to_second = second.local().value();
        std::array<std::byte, 16> buffer{};
        for (const int error :
             {EACCES, ECONNREFUSED, EMSGSIZE, ENETUNREACH, ENOBUFS, ENOMEM, EPERM}) {
            script.fail(IORING_OP_SENDMSG, error);
            const auto sent = co_await first.send_to("a", to_second);
            CHECK(sent.error().value() == error);
        }
        for (const int error : {ECONNREFUSED, ENOMEM, ENOTCONN}) {
            script.fail(IORING_OP_RECVMSG, error);
            const auto received = co_await second.receive_from(buffer);
            CHECK(received.error().value() == error);
        }
        static_cast<void>(co_await first.send_to("a", to_second));
        const auto received = co_await second.receive_from(buffer);
        CHECK(received.value().byte_count == 1);

        auto pooled = bind_loopback();
        script.fail(IORING_OP_RECVMSG, ENOMEM);
        const auto failed = co_await pooled.receive_from();
        CHECK(failed.error().value() == ENOMEM);
        script.fail(IORING_OP_RECVMSG, ENOBUFS);  // no buffer: waits for one
        const endpoint to_pooled = pooled.local().value();
        static_cast<void>(co_await first.send_to("b", to_pooled));
        auto next = co_await pooled.receive_from();
        CHECK(text_of(next.value().payload) == "b");
    };
    run_on(loop, body);
}

TEST_CASE("Unix datagrams have abstract names and keep their boundaries", "[net][datagram]") {
    ring loop;
    auto body = [&]() -> task<void> {
        const endpoint name = abstract_name("-a");
        auto named = datagram_socket::bind(name);
        REQUIRE(named.has_value());
        auto unnamed = datagram_socket::open(AF_UNIX);
        REQUIRE(unnamed.has_value());
        static_cast<void>(co_await unnamed->send_to("ab", name));
        static_cast<void>(co_await unnamed->send_to("c", name));
        auto first = co_await named->receive_from();
        CHECK(text_of(first.value().payload) == "ab");
        CHECK(first.value().peer.path().empty());
        auto second = co_await named->receive_from();
        CHECK(text_of(second.value().payload) == "c");

        auto sides = datagram_socket::pair(SOCK_SEQPACKET);
        REQUIRE(sides.has_value());
        static_cast<void>(co_await sides->first.send("x"));
        static_cast<void>(co_await sides->first.send("yz"));
        std::array<std::byte, 16> buffer{};
        const auto one = co_await sides->second.receive_from(buffer);
        CHECK(one.value().byte_count == 1);
        const auto two = co_await sides->second.receive_from(buffer);
        CHECK(two.value().byte_count == 2);
    };
    run_on(loop, body);
}

TEST_CASE("descriptors and credentials pass through a Unix socket", "[net][descriptors]") {
    ring loop;
    auto body = [&]() -> task<void> {
        const std::size_t before = descriptor_count();
        {
            auto sides = datagram_socket::pair(SOCK_SEQPACKET);
            REQUIRE(sides.has_value());
            REQUIRE(kevring::pass_credentials(sides->second.native()).has_value());
            std::array<int, 2> ends{};
            REQUIRE(::pipe(ends.data()) == 0);
            const kevring::fd reading(ends[0]);
            kevring::fd writing(ends[1]);
            const std::array<kevring::fd_ref, 1> passed{writing};
            const auto sent = co_await kevring::send_descriptors(loop, sides->first.native(),
                                                                 bytes_of("hi"), passed);
            CHECK(sent.value() == 2);
            writing.reset();
            std::array<std::byte, 16> buffer{};
            auto received =
                co_await kevring::receive_descriptors(loop, sides->second.native(), buffer, 1);
            REQUIRE(received.has_value());
            CHECK(received->byte_count == 2);
            REQUIRE(received->descriptors.size() == 1);
            REQUIRE(received->credentials.has_value());
            CHECK(received->credentials->process == ::getpid());
            CHECK(received->credentials->user == ::getuid());
            CHECK(::write(received->descriptors[0].number(), "z", 1) == 1);
            char byte = 0;
            CHECK(::read(reading.number(), &byte, 1) == 1);
            CHECK(byte == 'z');
        }
        CHECK(descriptor_count() == before);
    };
    run_on(loop, body);
}

TEST_CASE("more descriptors than wanted are an error, and none is left open",
          "[net][descriptors]") {
    ring loop;
    auto body = [&]() -> task<void> {
        auto sides = datagram_socket::pair(SOCK_DGRAM);
        REQUIRE(sides.has_value());
        const kevring::fd_ref sender = sides->first.native();
        const kevring::fd_ref receiver = sides->second.native();
        const std::vector<kevring::fd_ref> three(3, kevring::fd_ref(STDERR_FILENO));
        std::array<std::byte, 1> buffer{};
        const std::size_t before = descriptor_count();
        for (const std::size_t count_max : {0, 2}) {
            const auto sent =
                co_await kevring::send_descriptors(loop, sender, bytes_of("ab"), three);
            CHECK(sent.has_value());
            const auto received =
                co_await kevring::receive_descriptors(loop, receiver, buffer, count_max);
            CHECK(received.error() == std::errc::message_size);
            CHECK(descriptor_count() == before);
        }
        const auto again = co_await kevring::send_descriptors(loop, sender, bytes_of("ab"), three);
        CHECK(again.has_value());
        const auto received = co_await kevring::receive_descriptors(loop, receiver, buffer, 3);
        REQUIRE(received.has_value());
        CHECK(received->truncated);  // the bytes, not the descriptors
        CHECK(received->descriptors.size() == 3);

        const std::vector<kevring::fd_ref> many(254, kevring::fd_ref(STDERR_FILENO));
        const auto refused = co_await kevring::send_descriptors(loop, sender, bytes_of("a"), many);
        CHECK(refused.error() == std::errc::invalid_argument);
        const auto none = co_await kevring::receive_descriptors(loop, receiver, buffer, 254);
        CHECK(none.error() == std::errc::invalid_argument);
    };
    run_on(loop, body);
}

TEST_CASE("an allocation that fails during receive_descriptors leaks no descriptor",
          "[net][descriptors]") {
    if (!allocations_are_counted()) return;
    ring loop;
    auto body = [&]() -> task<void> {
        std::array<int, 2> ends{};
        REQUIRE(::pipe(ends.data()) == 0);
        const kevring::fd reading(ends[0]);
        const kevring::fd writing(ends[1]);
        const std::array<kevring::fd_ref, 2> passed{reading, writing};
        bool failed = true;
        for (std::uint64_t count = 0; failed; ++count) {
            const std::size_t before = descriptor_count();
            {
                auto sides = datagram_socket::pair(SOCK_SEQPACKET);
                REQUIRE(sides.has_value());
                const auto sent = co_await kevring::send_descriptors(loop, sides->first.native(),
                                                                     bytes_of("hi"), passed);
                REQUIRE(sent.has_value());
                std::array<std::byte, 16> buffer{};
                const failing_allocation fault(count);
                try {
                    const auto received = co_await kevring::receive_descriptors(
                        loop, sides->second.native(), buffer, 2);
                    if (!fault.has_failed()) CHECK(received.value().descriptors.size() == 2);
                } catch (const std::bad_alloc&) {}
                failed = fault.has_failed();
            }
            CHECK(descriptor_count() == before);
        }
    };
    run_on(loop, body);
}
