// races.cpp: an accept that loses a race loses no connection.
#include "tests/support/races.hpp"
#include "tests/support/run_on.hpp"

#include <kevring/net/listener.hpp>

#include <vector>

#include <sys/socket.h>

using kevring::endpoint;
using kevring::ring;
using kevring::task;

TEST_CASE("an accept that loses a race leaves its connection to the next", "[net][listener]") {
    constexpr int connection_count = 60;
    ring loop;
    std::vector<kevring::fd> clients;

    run_on(loop, [&]() -> task<void> {
        auto listener = kevring::listener::bind(loop, endpoint::loopback(0)).value();
        const endpoint local = listener.local().value();
        // A connection is complete when connect(2) returns, and its first byte is there.
        const auto dial = [&](int number) {
            clients.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
            const int client = clients.back().number();
            REQUIRE(::connect(client, local.address(), local.address_bytes()) == 0);
            const char byte = static_cast<char>(number);
            REQUIRE(::send(client, &byte, 1, 0) == 1);
        };
        const auto number_of = [](const kevring::socket& accepted) {
            char byte = -1;
            CHECK(::recv(accepted.native().number(), &byte, 1, 0) == 1);
            return static_cast<int>(byte);
        };

        const auto numbers = co_await numbers_of_races(
            connection_count, dial, [&] { return listener.accept(); }, number_of);

        CHECK(numbers == numbers_up_to(connection_count));
    });
}
