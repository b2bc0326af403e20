// A TLS connection ends when its peer, or the network, violates the protocol.
#include "tests/support/catch.hpp"
#include "tests/support/run_on.hpp"
#include "tests/support/tls_pair.hpp"

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <openssl/ssl.h>

using kevring::result;
using kevring::ring;
using kevring::task;
using kevring::task_scope;
using kevring::tls_errc;
using kevring::tls_stream;

namespace {

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
