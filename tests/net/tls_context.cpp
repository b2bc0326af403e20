// Certificates, names, protocols and sessions of TLS contexts, and their reload.
#include "tests/support/catch.hpp"
#include "tests/support/child_process.hpp"
#include "tests/support/run_on.hpp"
#include "tests/support/slow_clock.hpp"
#include "tests/support/tls_pair.hpp"

#include <kevring/runtime/sleep.hpp>
#include <kevring/runtime/task_scope.hpp>

#include <array>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <utility>

#include <unistd.h>

using kevring::ring;
using kevring::task;
using kevring::tls_client_options;
using kevring::tls_context;
using kevring::tls_errc;
using kevring::tls_server_options;

TEST_CASE("a client accepts a certificate only for the name that it asked for", "[net][tls]") {
    struct row {
        std::string host;
        std::optional<tls_errc> error;
    };
    const row tried = GENERATE(row{"localhost", {}}, row{"www.wild.test", {}}, row{"127.0.0.1", {}},
                               row{"localhost.", {}}, row{"other.test", tls_errc::host_mismatch},
                               row{"a.b.wild.test", tls_errc::host_mismatch},
                               row{"127.0.0.2", tls_errc::host_mismatch});
    CAPTURE(tried.host);
    ring loop;
    std::error_code client_error;
    std::error_code server_error;
    auto body = [&]() -> task<void> {
        two_streams both =
            co_await handshake(two_sockets(loop), client_context(), server_context(), tried.host);
        if (!both.client) client_error = both.client.error();
        if (!both.server)
            server_error = both.server.error();
        else if (!tried.error && tried.host == "www.wild.test")
            CHECK(both.server->server_name() == "www.wild.test");
    };

    run_on(loop, body);

    if (tried.error) {
        CHECK(client_error == *tried.error);
        CHECK(server_error == tls_errc::rejected_by_peer);
    } else {
        CHECK(!client_error);
        CHECK(!server_error);
    }
}

TEST_CASE("a host name that OpenSSL would read as another one is refused", "[net][tls]") {
    const std::string host = GENERATE(std::string(".wild.test"), std::string(""), std::string("."),
                                      std::string("localhost\0.other.test", 20));
    ring loop;
    std::error_code error;
    auto body = [&]() -> task<void> {
        auto sockets = two_sockets(loop);
        const auto connected =
            co_await kevring::tls_stream::connect(std::move(sockets.first), client_context(), host);
        if (!connected) error = connected.error();
    };

    run_on(loop, body);

    CHECK(error == std::errc::invalid_argument);
}

TEST_CASE("a certificate that is expired or from another authority is refused", "[net][tls]") {
    ring loop;
    const bool expired = GENERATE(true, false);
    const bool verified = GENERATE(true, false);
    CAPTURE(expired, verified);
    tls_authority other;
    const auto files = expired ? authority().issue("expired", "DNS:localhost", -7200, -3600)
                               : other.issue("other", "DNS:localhost");
    tls_server_options options = server_options();
    options.certificate_file = files.chain_file;
    options.key_file = files.key_file;
    tls_client_options trust = client_options();
    trust.verify_peer = verified;
    std::error_code error;
    auto body = [&]() -> task<void> {
        const two_streams both =
            co_await handshake(two_sockets(loop), tls_context::client(trust).value(),
                               tls_context::server(options).value());
        if (!both.client) error = both.client.error();
    };

    run_on(loop, body);

    if (!verified)
        CHECK(!error);
    else
        CHECK(error == (expired ? tls_errc::certificate_expired : tls_errc::certificate_untrusted));
}

TEST_CASE("ALPN selects the server's first protocol that the client offers", "[net][tls]") {
    ring loop;
    tls_server_options options = server_options();
    options.protocols = {"http/1.1", "echo"};
    tls_client_options offers = client_options();
    const auto [offered, selected] = GENERATE(table<std::string, std::string>(
        {{"echo,http/1.1", "http/1.1"}, {"h2,echo", "echo"}, {"", ""}, {"h2", "error"}}));
    for (std::size_t index = 0; index < offered.size();) {
        const std::size_t end = std::min(offered.find(',', index), offered.size());
        offers.protocols.push_back(offered.substr(index, end - index));
        index = end + 1;
    }
    std::string client_protocol = "error";
    std::string server_protocol = "error";
    auto body = [&]() -> task<void> {
        const two_streams both =
            co_await handshake(two_sockets(loop), tls_context::client(offers).value(),
                               tls_context::server(options).value());
        if (both.client) client_protocol = both.client->protocol();
        if (both.server) server_protocol = both.server->protocol();
        if (!both.client) CHECK(both.client.error() == tls_errc::no_protocol);
    };

    run_on(loop, body);

    CHECK(client_protocol == selected);
    CHECK(server_protocol == selected);
}

TEST_CASE("a session is resumed by its ticket, also after a reload of the server", "[net][tls]") {
    ring loop;
    tls_server_options options = server_options();
    options.session_tickets = GENERATE(true, false);
    CAPTURE(options.session_tickets);
    const tls_context client = client_context();
    const tls_context server = tls_context::server(options).value();
    std::array<bool, 3> resumed{};
    auto body = [&]() -> task<void> {
        for (std::size_t i = 0; i < resumed.size(); ++i) {
            two_streams both = co_await handshake(two_sockets(loop), client, server);
            REQUIRE(both.client.has_value());
            REQUIRE(both.server.has_value());
            resumed[i] = both.client->resumed() && both.server->resumed();
            const auto sent = co_await both.server->send("x");  // the tickets precede it
            CHECK(sent.has_value());
            const std::string byte = co_await receive_bytes(*both.client, 1);
            CHECK(byte == "x");
            if (i == 1) CHECK(server.reload().has_value());
        }
    };

    run_on(loop, body);

    CHECK(!resumed[0]);
    CHECK(resumed[1] == options.session_tickets);
    CHECK(resumed[2] == options.session_tickets);
}

// The tickets of TLS 1.3 come after the handshake.
TEST_CASE("a client keeps no session that the authorities before a reload have verified",
          "[net][tls]") {
    ring loop;
    tls_authority revoked;
    const auto files = revoked.issue("revoked", "DNS:localhost");
    tls_server_options options = server_options();
    options.certificate_file = files.chain_file;
    options.key_file = files.key_file;
    const tls_context server = tls_context::server(options).value();
    const std::string trusted = authority().path("trusted.pem");
    const auto replace = std::filesystem::copy_options::overwrite_existing;
    std::filesystem::copy_file(revoked.authority_file(), trusted, replace);
    tls_client_options trust;
    trust.authority_file = trusted;
    const tls_context client = tls_context::client(trust).value();
    std::error_code error;
    auto body = [&]() -> task<void> {
        two_streams first = co_await handshake(two_sockets(loop), client, server);
        REQUIRE(first.client.has_value());
        const auto sent = co_await first.server->send("x");  // the tickets precede it
        CHECK(sent.has_value());
        std::filesystem::copy_file(authority().authority_file(), trusted, replace);
        CHECK(client.reload().has_value());
        const std::string byte = co_await receive_bytes(*first.client, 1);
        CHECK(byte == "x");

        const two_streams second = co_await handshake(two_sockets(loop), client, server);
        if (!second.client) error = second.client.error();
    };

    run_on(loop, body);

    CHECK(error == tls_errc::certificate_untrusted);
}

TEST_CASE("a handshake in a forked child takes no byte from its parent", "[net][tls][fork]") {
    ring loop;
    const tls_context server = server_context();
    two_sockets sockets(loop);
    auto body = [&]() -> task<void> {
        const auto sent = co_await sockets.first.send("bytes");
        REQUIRE(sent.has_value());
        auto accepts = [&]() -> task<void> {
            const auto accepted =
                co_await kevring::tls_stream::accept(std::move(sockets.second), server);
            if (accepted.has_value() || accepted.error() != std::errc::operation_not_permitted)
                throw std::runtime_error("accept() on a parent's socket");
        };
        const child_outcome child = run_in_child([&] {
            ring own;
            task<void> accepting = accepts();
            kevring::run(own, std::move(accepting));
        });
        INFO(child.error_text);
        CHECK(child.exited(0));
        const std::string received = co_await receive_bytes(sockets.second, 5);
        CHECK(received == "bytes");
    };
    run_on(loop, body);
}

TEST_CASE("a reload changes the certificate of new connections, and keeps those that exist",
          "[net][tls]") {
    ring loop;
    const auto files = authority().issue("reloaded", "DNS:localhost");
    tls_server_options options = server_options();
    options.certificate_file = files.chain_file;
    options.key_file = files.key_file;
    auto body = [&]() -> task<void> {
        const tls_context server = tls_context::server(options).value();
        two_streams first = co_await handshake(two_sockets(loop), client_context(), server);
        REQUIRE(first.server.has_value());
        authority().issue("reloaded", "DNS:renamed.test");
        CHECK(server.reload().has_value());
        two_streams second =
            co_await handshake(two_sockets(loop), client_context(), server, "renamed.test");
        CHECK(second.client.has_value());

        // A file that cannot be used changes nothing.
        std::ofstream(files.key_file) << "no key";
        CHECK(server.reload().error() == tls_errc::bad_key_file);
        two_streams third =
            co_await handshake(two_sockets(loop), client_context(), server, "renamed.test");
        CHECK(third.client.has_value());

        const auto sent = co_await first.server->send("still");
        CHECK(sent.has_value());
        const std::string received = co_await receive_bytes(*first.client, 5);
        CHECK(received == "still");
    };

    run_on(loop, body);
}

TEST_CASE("a context and the one that continues it have one bound of handshakes", "[net][tls]") {
    slow_clock clock;  // no handshake is too slow
    ring loop(kevring::ring_options(), clock);
    tls_server_options options = server_options();
    options.handshake_count_max = 2;
    auto body = [&]() -> task<void> {
        const tls_context first = tls_context::server(options).value();
        const tls_context second = first.renewed(options).value();
        options.handshake_count_max = 3;
        const tls_context third = second.renewed(options).value();
        options.handshake_count_max = 1;
        const tls_context fourth = third.renewed(options).value();
        const std::string hello = co_await first_message(loop);
        std::array<socket_pair, 6> pairs;
        std::array<std::error_code, 6> errors;
        kevring::task_scope tasks(loop);
        // Begins a handshake, which stays. Returns the number of those that have a place.
        auto begin = [&](std::size_t index, const tls_context& context) -> task<std::size_t> {
            pairs[index].send_from_peer(hello);
            tasks.spawn(accept_local(loop, pairs[index], context, errors[index]));
            for (int i = 0; i < 20; ++i) co_await kevring::yield();
            co_return context.handshake_count();
        };
        std::array<std::size_t, 6> counts{};
        counts[0] = co_await begin(0, first);
        counts[1] = co_await begin(1, second);
        counts[2] = co_await begin(2, first);  // waits
        counts[3] = co_await begin(3, third);  // the bound is 3 now, and this one waits
        counts[4] = co_await begin(4, first);  // an old context does not change it
        counts[5] = co_await begin(5, fourth);
        CHECK(counts == std::array<std::size_t, 6>{1, 2, 2, 3, 3, 3});
        // Places above the lower bound are not used again: each end leaves one handshake less.
        for (const std::size_t left : {std::size_t{2}, std::size_t{1}}) {
            pairs[2 - left].close_peer();
            for (int i = 0; i < 20; ++i) co_await kevring::yield();
            CHECK(fourth.handshake_count() == left);
        }
        pairs[2].close_peer();
        for (int i = 0; i < 20; ++i) co_await kevring::yield();
        CHECK(fourth.handshake_count() == 1);  // that of one that waited
        tasks.request_stop();
        co_await tasks.join();
        CHECK(fourth.handshake_count() == 0);
    };

    run_on(loop, body);
}

TEST_CASE("a context names the file that cannot be used", "[net][tls]") {
    tls_server_options options = server_options();
    const auto other = authority().issue("other", "DNS:other.test");
    const std::string garbage = authority().path("garbage.pem");
    std::ofstream(garbage) << "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

    SECTION("a missing certificate") {
        options.certificate_file = authority().path("missing");
        CHECK(tls_context::server(options).error() == std::errc::no_such_file_or_directory);
    }
    SECTION("a missing key") {
        options.key_file = authority().path("missing");
        CHECK(tls_context::server(options).error() == std::errc::no_such_file_or_directory);
    }
    SECTION("a certificate that is none") {
        options.certificate_file = garbage;
        CHECK(tls_context::server(options).error() == tls_errc::bad_certificate_file);
    }
    SECTION("the key of another certificate") {
        options.key_file = other.key_file;
        CHECK(tls_context::server(options).error() == tls_errc::key_mismatch);
    }
    SECTION("authorities that are none") {
        tls_client_options trust;
        trust.authority_file = garbage;
        CHECK(tls_context::client(trust).error() == tls_errc::bad_authority_file);
    }
    SECTION("a protocol without a name") {
        options.protocols = {""};
        CHECK(tls_context::server(options).error() == std::errc::invalid_argument);
    }
}
