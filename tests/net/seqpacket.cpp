// Connections of messages: boundaries, the end, and names in the file system or abstract.
#include "tests/support/catch.hpp"
#include "tests/support/run_on.hpp"
#include "tests/support/scripted_kernel.hpp"

#include <kevring/net/descriptor_passing.hpp>
#include <kevring/net/seqpacket.hpp>
#include <kevring/runtime/when.hpp>

#include <array>
#include <cerrno>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include <unistd.h>

using kevring::endpoint;
using kevring::ring;
using kevring::seqpacket_listener;
using kevring::seqpacket_socket;
using kevring::task;
using namespace std::chrono_literals;

namespace {

endpoint abstract_name(const std::string& suffix) {
    return endpoint::unix_path("@kevring-seqpacket-" + std::to_string(::getpid()) + suffix).value();
}

struct both_ends {
    seqpacket_socket local;
    seqpacket_socket peer;
};

task<both_ends> connected(ring& loop, seqpacket_listener& listening) {
    const auto address = listening.local().value();
    auto local = co_await kevring::connect_seqpacket(loop, address);
    auto peer = co_await listening.accept();
    co_return both_ends{std::move(local.value()), std::move(peer.value())};
}

}  // namespace

TEST_CASE("a seqpacket connection keeps the boundaries of messages, and has an end",
          "[net][seqpacket]") {
    ring loop;
    auto body = [&]() -> task<void> {
        auto listening = seqpacket_listener::bind(abstract_name("-a")).value();
        auto ends = co_await connected(loop, listening);
        for (const std::string_view text : {"a", "bcd", "0123456789"}) {
            const auto sent = co_await ends.local.send(text);
            CHECK(sent.value() == text.size());
        }
        const auto empty = co_await ends.local.send("");
        CHECK(empty.error() == std::errc::invalid_argument);
        CHECK(ends.local.shutdown_send().has_value());
        std::array<std::byte, 4> buffer{};
        for (const std::size_t byte_count : {1, 3, 4}) {
            const auto received = co_await ends.peer.receive(buffer);
            CHECK(received.value().byte_count == byte_count);
            CHECK(received.value().truncated == (byte_count == 4));
        }
        const auto ended = co_await ends.peer.receive(buffer);
        CHECK(ended.value().byte_count == 0);
        const auto nothing = co_await ends.peer.receive(std::span(buffer).first(0));
        CHECK(nothing.error() == std::errc::invalid_argument);

        const std::array<kevring::fd_ref, 1> passed{kevring::fd_ref(STDERR_FILENO)};
        const auto answered = co_await kevring::send_descriptors(
            loop, ends.peer.native(), std::as_bytes(std::span("x", 1)), passed);
        CHECK(answered.has_value());
        const auto received =
            co_await kevring::receive_descriptors(loop, ends.local.native(), buffer, 1);
        CHECK(received.value().descriptors.size() == 1);
    };
    run_on(loop, body);
}

TEST_CASE("a seqpacket listener removes the path that it created", "[net][seqpacket]") {
    ring loop;
    const auto path = std::filesystem::temp_directory_path() /
                      ("kevring-seqpacket." + std::to_string(::getpid()));
    const auto address = endpoint::unix_path(path.string()).value();
    auto body = [&]() -> task<void> {
        {
            auto first = seqpacket_listener::bind(address);
            REQUIRE(first.has_value());
            auto moved = std::move(*first);
            const auto second = seqpacket_listener::bind(address);
            CHECK(second.error() == std::errc::address_in_use);
            auto ends = co_await connected(loop, moved);
            CHECK(std::filesystem::exists(path));
        }
        CHECK_FALSE(std::filesystem::exists(path));
        const auto nothing = co_await kevring::connect_seqpacket(loop, address);
        CHECK(nothing.error() == std::errc::no_such_file_or_directory);
        const auto other = co_await kevring::connect_seqpacket(loop, abstract_name("-none"));
        CHECK(other.error() == std::errc::connection_refused);
        CHECK(seqpacket_listener::bind(endpoint::loopback(0)).error() ==
              std::errc::invalid_argument);
    };
    run_on(loop, body);
}

TEST_CASE("a stop before, during and after a seqpacket accept or receive", "[net][seqpacket]") {
    ring loop;
    auto body = [&]() -> task<void> {
        auto listening = seqpacket_listener::bind(abstract_name("-stop")).value();
        const auto before = co_await kevring::with_timeout(listening.accept(), 0ns);
        CHECK(before.error() == std::errc::timed_out);
        const auto during = co_await kevring::with_timeout(listening.accept(), 1ms);
        CHECK(during.error() == std::errc::timed_out);
        auto ends = co_await connected(loop, listening);  // the stops have lost no connection
        std::array<std::byte, 4> buffer{};
        const auto no_message = co_await kevring::with_timeout(ends.peer.receive(buffer), 1ms);
        CHECK(no_message.error() == std::errc::timed_out);
        static_cast<void>(co_await ends.local.send("abc"));
        const auto message = co_await kevring::with_timeout(ends.peer.receive(buffer), 1h);
        CHECK(message.value().byte_count == 3);
    };
    run_on(loop, body);
}

TEST_CASE("every error of a seqpacket request reaches the caller", "[net][seqpacket]") {
    scripted_kernel script;
    ring loop({}, script);
    auto body = [&]() -> task<void> {
        auto listening = seqpacket_listener::bind(abstract_name("-errors")).value();
        auto ends = co_await connected(loop, listening);
        std::array<std::byte, 4> buffer{};
        for (const int error : {EPIPE, ECONNRESET, EMSGSIZE, ENOBUFS, ENOMEM, ENOTCONN}) {
            script.fail(IORING_OP_SENDMSG, error);
            const auto sent = co_await ends.local.send("a");
            CHECK(sent.error().value() == error);
            script.fail(IORING_OP_RECVMSG, error);
            const auto received = co_await ends.peer.receive(buffer);
            CHECK(received.error().value() == error);
        }
        for (const int error : {EACCES, EAGAIN, ECONNREFUSED, EPROTOTYPE, ENOENT}) {
            script.fail(IORING_OP_CONNECT, error);
            const auto failed = co_await kevring::connect_seqpacket(loop, abstract_name("-errors"));
            CHECK(failed.error().value() == error);
        }
    };
    run_on(loop, body);
}
