// asio::ssl::stream over a socket of this library.
#include "tests/support/catch.hpp"
#include "tests/support/run_on.hpp"
#include "tests/support/socket_pair.hpp"

#include <kevring/net/asio/from_asio.hpp>
#include <kevring/net/asio/stream.hpp>

#include <asio/read.hpp>
#include <asio/ssl.hpp>
#include <asio/write.hpp>

#include <memory>
#include <string>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

using kevring::result;
using kevring::ring;
using kevring::task;
using kevring::use_kevring;

namespace {

template <auto Free>
struct freed {
    template <class T>
    void operator()(T* object) const {
        Free(object);
    }
};

std::string text_of(BIO* memory) {
    char* data = nullptr;
    const long count = BIO_get_mem_data(memory, &data);
    return {data, static_cast<std::size_t>(count)};
}

// A certificate that signs itself, and its key.
void use_new_certificate(asio::ssl::context& tls) {
    const std::unique_ptr<EVP_PKEY, freed<EVP_PKEY_free>> key(EVP_EC_gen("P-256"));
    const std::unique_ptr<X509, freed<X509_free>> certificate(X509_new());
    ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate.get()), -3600);
    X509_gmtime_adj(X509_getm_notAfter(certificate.get()), 3600);
    X509_set_pubkey(certificate.get(), key.get());
    X509_sign(certificate.get(), key.get(), EVP_sha256());
    const std::unique_ptr<BIO, freed<BIO_free>> written(BIO_new(BIO_s_mem()));
    PEM_write_bio_X509(written.get(), certificate.get());
    const std::string certificate_text = text_of(written.get());
    const std::unique_ptr<BIO, freed<BIO_free>> written_key(BIO_new(BIO_s_mem()));
    PEM_write_bio_PrivateKey(written_key.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr);
    const std::string key_text = text_of(written_key.get());
    tls.use_certificate_chain(asio::buffer(certificate_text));
    tls.use_private_key(asio::buffer(key_text), asio::ssl::context::pem);
}

kevring::fd copy_of(kevring::fd_ref descriptor) { return kevring::fd(::dup(descriptor.number())); }

using secure_stream = asio::ssl::stream<kevring::asio_stream>;

}  // namespace

TEST_CASE("asio::ssl::stream works on a socket of this library", "[net][asio][ssl]") {
    ring loop;
    socket_pair pair;
    asio::ssl::context server_tls(asio::ssl::context::tls_server);
    use_new_certificate(server_tls);
    asio::ssl::context client_tls(asio::ssl::context::tls_client);
    const std::string request(200'000, 'q');
    std::string received;
    auto serve = [&]() -> task<void> {
        secure_stream peer(kevring::asio_stream(kevring::socket(loop, copy_of(pair.local()))),
                           server_tls);
        pair.close_local();
        const result<void> greeted =
            co_await peer.async_handshake(asio::ssl::stream_base::server, use_kevring);
        CHECK(greeted.has_value());
        received.resize(request.size());
        const result<std::size_t> count =
            co_await asio::async_read(peer, asio::buffer(received), use_kevring);
        CHECK(count.value() == request.size());
        const std::string answer = "done";
        const result<std::size_t> sent =
            co_await asio::async_write(peer, asio::buffer(answer), use_kevring);
        CHECK(sent.value() == answer.size());
        const result<void> ended = co_await peer.async_shutdown(use_kevring);
        static_cast<void>(ended);  // the client may close without an answer
    };
    auto body = [&]() -> task<std::string> {
        kevring::task_scope side(loop);
        side.spawn(serve());
        std::string answer(4, '\0');
        {
            secure_stream peer(kevring::asio_stream(kevring::socket(loop, copy_of(pair.peer()))),
                               client_tls);
            pair.close_peer();
            const result<void> greeted =
                co_await peer.async_handshake(asio::ssl::stream_base::client, use_kevring);
            CHECK(greeted.has_value());
            const result<std::size_t> sent =
                co_await asio::async_write(peer, asio::buffer(request), use_kevring);
            CHECK(sent.value() == request.size());
            const result<std::size_t> count =
                co_await asio::async_read(peer, asio::buffer(answer), use_kevring);
            CHECK(count.value() == answer.size());
        }
        co_await side.join();
        co_return answer;
    };

    CHECK(run_on(loop, body) == "done");
    CHECK(received == request);
}
