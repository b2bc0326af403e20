#include "tests/support/catch.hpp"
#include "tests/support/loopback_listener.hpp"
#include "tests/support/run_on.hpp"

#include <kevring/net/copy.hpp>

#include <array>
#include <string>
#include <thread>

#include <sys/socket.h>
#include <unistd.h>

using kevring::ring;
using kevring::task;

namespace {

// Bytes that differ at each place, so that one that is lost or moved is seen.
std::string pattern(std::size_t byte_count, unsigned seed) {
    std::string text(byte_count, '\0');
    unsigned state = seed;
    for (char& each : text) {
        state = state * 1664525U + 1013904223U;
        each = static_cast<char>(state >> 24);
    }
    return text;
}

void send_all(int socket, const std::string& text) {
    std::size_t sent = 0;
    while (sent < text.size()) {
        const ssize_t count = ::send(socket, text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
        if (count <= 0) return;
        sent += static_cast<std::size_t>(count);
    }
}

std::string receive_to_end(int socket) {
    std::string text;
    std::array<char, 65536> bytes;
    while (true) {
        const ssize_t count = ::recv(socket, bytes.data(), bytes.size(), 0);
        if (count <= 0) return text;
        text.append(bytes.data(), static_cast<std::size_t>(count));
    }
}

}  // namespace

TEST_CASE("copy_both passes all bytes of any size on, and the end of each side", "[net][copy]") {
    for (const std::size_t byte_count : {std::size_t{0}, std::size_t{1}, std::size_t{32} << 10,
                                         std::size_t{100'003}, std::size_t{4} << 20}) {
        CAPTURE(byte_count);
        ring loop;
        const loopback_listener accepting;
        loopback_connection client = accepting.connect();
        loopback_connection server = accepting.connect();
        const std::string request = pattern(byte_count, 1);
        const std::string response = pattern(byte_count / 2 + 7, 2);
        std::string request_received;
        std::string response_received;

        std::thread client_thread([&] {
            send_all(client.dialled.number(), request);
            ::shutdown(client.dialled.number(), SHUT_WR);
            response_received = receive_to_end(client.dialled.number());
        });
        // The response begins only after the end of the request has been passed on.
        std::thread server_thread([&] {
            request_received = receive_to_end(server.dialled.number());
            send_all(server.dialled.number(), response);
            ::shutdown(server.dialled.number(), SHUT_WR);
        });
        kevring::copy_both_result copied;
        auto body = [&]() -> task<void> {
            kevring::socket first(loop, std::move(client.accepted));
            kevring::socket second(loop, std::move(server.accepted));
            copied = co_await kevring::copy_both(first, second);
        };
        run_on(loop, body);
        client_thread.join();
        server_thread.join();

        CHECK(!copied.error);
        CHECK(copied.to_second == request.size());
        CHECK(copied.to_first == response.size());
        CHECK(request_received == request);
        CHECK(response_received == response);
    }
}

TEST_CASE("an error of one direction of copy_both ends the other", "[net][copy]") {
    ring loop;
    const loopback_listener accepting;
    loopback_connection client = accepting.connect();
    loopback_connection server = accepting.connect();
    const linger reset{1, 0};
    REQUIRE(::setsockopt(client.dialled.number(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset) ==
            0);
    client.dialled.reset();
    kevring::copy_both_result copied;
    auto body = [&]() -> task<void> {
        kevring::socket first(loop, std::move(client.accepted));
        kevring::socket second(loop, std::move(server.accepted));
        copied = co_await kevring::copy_both(first, second);
    };
    run_on(loop, body);
    CHECK(copied.error == std::errc::connection_reset);
}

TEST_CASE("receive_pieces gives all that has come, and 0 at the end", "[net][socket]") {
    ring loop;
    const loopback_listener accepting;
    loopback_connection ends = accepting.connect();
    auto body = [&]() -> task<void> {
        kevring::socket local(loop, std::move(ends.accepted));
        const std::string text = pattern(300'000, 3);
        std::thread sender([&] {
            send_all(ends.dialled.number(), text);
            ::shutdown(ends.dialled.number(), SHUT_WR);
        });
        std::string received;
        std::array<kevring::borrowed_buffer, 4> pieces;
        while (true) {
            const auto count = co_await local.receive_pieces(pieces);
            CHECK(count.has_value());
            if (!count || *count == 0) break;
            for (std::size_t i = 0; i < *count; ++i)
                received.append(reinterpret_cast<const char*>(pieces[i].data()), pieces[i].size());
        }
        sender.join();
        CHECK(received == text);
    };
    run_on(loop, body);
}
