// TLS connections over socket pairs: both ends are of this library, or one is OpenSSL itself.
#include "tests/support/catch.hpp"
#include "tests/support/received.hpp"
#include "tests/support/run_on.hpp"
#include "tests/support/scripted_kernel.hpp"
#include "tests/support/socket_pair.hpp"
#include "tests/support/tls_authority.hpp"

#include <kevring/net/tls_context.hpp>
#include <kevring/net/tls_stream.hpp>
#include <kevring/runtime/when.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <fstream>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <openssl/ssl.h>
#include <unistd.h>

using kevring::borrowed_buffer;
using kevring::result;
using kevring::ring;
using kevring::task;
using kevring::task_scope;
using kevring::tls_client_options;
using kevring::tls_context;
using kevring::tls_errc;
using kevring::tls_server_options;
using kevring::tls_stream;
using namespace std::chrono_literals;

namespace {

// One for all tests: a key and its signature cost milliseconds, with a sanitizer more.
tls_authority& authority() {
    static tls_authority only;
    return only;
}

const tls_authority::certificate& certificate() {
    static const tls_authority::certificate only =
        authority().issue("server", "DNS:localhost,DNS:*.wild.test,IP:127.0.0.1");
    return only;
}

tls_server_options server_options() {
    tls_server_options options;
    options.certificate_file = certificate().chain_file;
    options.key_file = certificate().key_file;
    return options;
}

tls_client_options client_options() {
    tls_client_options options;
    options.authority_file = authority().authority_file();
    return options;
}

tls_context server_context() { return tls_context::server(server_options()).value(); }
tls_context client_context() { return tls_context::client(client_options()).value(); }

kevring::fd copy_of(kevring::fd_ref descriptor) { return kevring::fd(::dup(descriptor.number())); }

// The sockets of a pair; closing one of them is the end of the connection for the other.
struct two_sockets {
    explicit two_sockets(ring& loop, socket_pair&& pair = socket_pair())
        : first(loop, copy_of(pair.local())), second(loop, copy_of(pair.peer())) {
        pair.close_local();
        pair.close_peer();
    }
    kevring::socket first;
    kevring::socket second;
};

struct two_streams {
    result<tls_stream> client;
    result<tls_stream> server;
};

task<two_streams> handshake(two_sockets sockets, tls_context client, tls_context server,
                            std::string host = "localhost") {
    auto [connected, accepted] = co_await kevring::when_all(
        tls_stream::connect(std::move(sockets.first), std::move(client), std::move(host)),
        tls_stream::accept(std::move(sockets.second), std::move(server)));
    co_return two_streams{std::move(connected), std::move(accepted)};
}

task<two_streams> connected_streams(ring& loop) {
    two_streams made = co_await handshake(two_sockets(loop), client_context(), server_context());
    REQUIRE(made.client.has_value());
    REQUIRE(made.server.has_value());
    co_return made;
}

template <class Stream>
task<std::string> receive_bytes(Stream& stream, std::size_t byte_count) {
    std::string all;
    while (all.size() < byte_count) {
        const auto received = co_await stream.receive();
        if (!received || received->empty()) break;
        all += text_of(*received);
    }
    co_return all;
}

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

template <auto Free>
struct freed {
    template <class T>
    void operator()(T* object) const {
        Free(object);
    }
};

// A client made of OpenSSL alone, which violates rules on demand.
class openssl_client {
public:
    openssl_client(kevring::socket connected)
        : socket_(std::move(connected)),
          context_(SSL_CTX_new(TLS_client_method())),
          connection_(SSL_new(context_.get())) {
        SSL_set_bio(connection_.get(), BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
        SSL_set_connect_state(connection_.get());
    }

    SSL* native() const noexcept { return connection_.get(); }

    task<bool> handshake() {
        while (true) {
            const int answer = SSL_do_handshake(native());
            co_await flush();
            if (answer == 1) co_return true;
            const bool more = co_await receive();
            if (!more) co_return false;
        }
    }
    task<void> flush() {
        char* bytes = nullptr;
        const long count = BIO_get_mem_data(SSL_get_wbio(native()), &bytes);
        const auto sent =
            co_await socket_.send(std::string_view(bytes, static_cast<std::size_t>(count)));
        static_cast<void>(sent);
        BIO_reset(SSL_get_wbio(native()));
    }

private:
    task<bool> receive() {
        const auto received = co_await socket_.receive();
        if (!received || received->empty()) co_return false;
        BIO_write(SSL_get_rbio(native()), received->data(), static_cast<int>(received->size()));
        co_return true;
    }

    kevring::socket socket_;
    std::unique_ptr<SSL_CTX, freed<SSL_CTX_free>> context_;
    std::unique_ptr<SSL, freed<SSL_free>> connection_;
};

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
    for (std::size_t at = 0; at < offered.size();) {
        const std::size_t end = std::min(offered.find(',', at), offered.size());
        offers.protocols.push_back(offered.substr(at, end - at));
        at = end + 1;
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
        std::error_code first_error;
        auto accept_silent = [&]() -> task<void> {
            kevring::socket accepted(loop, copy_of(silent.local()));
            silent.close_local();
            const auto server = co_await tls_stream::accept(std::move(accepted), context);
            first_error = server.error();
        };
        auto connect = [&]() -> task<void> {
            const two_streams both =
                co_await handshake(two_sockets(loop), client_context(), context);
            connected = both.client.has_value() && both.server.has_value();
        };
        task_scope tasks(loop);
        tasks.spawn(accept_silent());
        tasks.spawn(connect());
        for (int i = 0; i < 20; ++i) co_await kevring::yield();
        CHECK(context.handshake_count() == 1);
        CHECK(!connected);
        silent.close_peer();
        co_await tasks.join();
        CHECK(first_error == tls_errc::truncated);
    };

    run_on(loop, body);

    CHECK(connected);
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

TEST_CASE("a key update by the peer ends the connection", "[net][tls]") {
    ring loop;
    std::error_code error;
    auto body = [&]() -> task<void> {
        two_sockets sockets(loop);
        openssl_client client(std::move(sockets.first));
        std::optional<result<tls_stream>> server;
        auto accept = [&]() -> task<void> {
            server.emplace(
                co_await tls_stream::accept(std::move(sockets.second), server_context()));
        };
        task_scope tasks(loop);
        tasks.spawn(accept());
        const bool connected = co_await client.handshake();
        REQUIRE(connected);
        co_await tasks.join();
        REQUIRE(server->has_value());
        CHECK(SSL_key_update(client.native(), SSL_KEY_UPDATE_REQUESTED) == 1);
        CHECK(SSL_write(client.native(), "x", 1) == 1);
        co_await client.flush();
        const auto received = co_await (**server).receive();
        error = received.error();
        const auto sent = co_await (**server).send("y");
        CHECK(sent.error() == tls_errc::key_update_refused);
    };

    run_on(loop, body);

    CHECK(error == tls_errc::key_update_refused);
}

TEST_CASE("a changed byte in transit ends the connection", "[net][tls]") {
    ring loop;
    std::error_code error;
    auto body = [&]() -> task<void> {
        two_sockets near(loop);
        two_sockets far(loop);
        bool spoils = false;
        auto relay = [&](kevring::socket& source, kevring::socket& target) -> task<void> {
            while (true) {
                auto received = co_await source.receive();
                if (!received || received->empty()) break;
                if (spoils) received->data()[received->size() - 1] ^= std::byte{1};
                const auto sent = co_await target.send(received->bytes());
                if (!sent) break;
            }
        };
        task_scope relays(loop);
        relays.spawn(relay(near.second, far.first));
        relays.spawn(relay(far.first, near.second));
        auto [client, server] = co_await kevring::when_all(
            tls_stream::connect(std::move(near.first), client_context(), "localhost"),
            tls_stream::accept(std::move(far.second), server_context()));
        REQUIRE(server.has_value());
        spoils = true;
        const auto sent = co_await client->send("x");
        CHECK(sent.has_value());
        const auto received = co_await server->receive();
        error = received.error();
        const auto again = co_await server->receive();
        CHECK(again.error() == tls_errc::protocol_error);
        relays.request_stop();
        co_await relays.join();
    };

    run_on(loop, body);

    CHECK(error == tls_errc::protocol_error);
    CHECK(error.message().find("bad record mac") != std::string::npos);
}
