// tls_context.hpp: certificates, trust and protocols of TLS connections.
#pragma once

#include <kevring/net/tls_error.hpp>
#include <kevring/runtime/clock.hpp>
#include <kevring/runtime/result.hpp>

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace kevring {

namespace detail {
class tls_context_state;
}

struct tls_client_options {
    /// Verifies the server's certificate and that it is for the host name. Without it any process on
    /// the network path can read and change all bytes.
    bool verify_peer = true;
    /// The trusted authorities, a PEM file; empty: the system's store (SSL_CERT_FILE and
    /// SSL_CERT_DIR of the environment override its place).
    std::string authority_file = {};
    /// The client's own certificate chain and key, PEM files; empty: none.
    std::string certificate_file = {};
    std::string key_file = {};
    /// ALPN: the protocols that the client offers, the preferred one first; empty: no ALPN.
    std::vector<std::string> protocols = {};
    /// Sessions that are kept to be resumed, for all hosts together; 0: none.
    std::size_t session_count_max = 256;
    /// The bound of handshakes at a time; further ones wait within their timeout.
    std::size_t handshake_count_max = 1024;
    /// From the begin of connect(), the wait for other handshakes included.
    clamped_duration handshake_timeout = std::chrono::seconds(30);
};

struct tls_server_options {
    /// The server's certificate, followed by its intermediate certificates; a PEM file.
    std::string certificate_file = {};
    /// The key of the certificate; a PEM file without a pass phrase.
    std::string key_file = {};
    /// ALPN: the protocols of the server, the preferred one first. A client that offers only others
    /// is refused; one without ALPN is served. Empty: ALPN is ignored.
    std::vector<std::string> protocols = {};
    /// Session tickets: a client that returns resumes its session without a signature of the server.
    bool session_tickets = true;
    /// The bound of handshakes at a time, on all loops; further ones wait within their timeout. Each
    /// holds some 30 KiB. A client is counted once its first message, of at most 16 KiB, is complete.
    /// While others wait, a client that has not finished 2 s later ends with timed_out. A client that is
    /// not counted holds what it has sent of its first message, until the timeout.
    std::size_t handshake_count_max = 512;
    /// From the begin of accept(), the wait for other handshakes included.
    clamped_duration handshake_timeout = std::chrono::seconds(10);
};

/// The common part of the connections of a client or a server: TLS 1.2 and 1.3. A copy refers to the
/// same state.
///
/// Thread     Any, also several at once.
class tls_context {
public:
    /// Whether the library was built with TLS (OpenSSL 3). Without it client() and server() fail.
    static bool available() noexcept;

    /// Errors     function_not_supported in a build without TLS; bad_authority_file,
    ///            bad_certificate_file, bad_key_file, key_mismatch; no_such_file_or_directory and
    ///            other errors of open(2); invalid_argument for a protocol that is empty or longer
    ///            than 255 bytes; not_enough_memory.
    static result<tls_context> client(const tls_client_options& options = {});
    /// Errors     As client().
    static result<tls_context> server(const tls_server_options& options);

    /// Reads the files again, for connections that begin from here on. Existing connections, and
    /// sessions that clients hold, stay valid. It reads files and blocks the calling thread.
    ///
    /// Errors     As client(); the context is unchanged then.
    result<void> reload() const;

    /// A server's context by other options that continues this one: sessions that clients of this
    /// context hold can be resumed, and the handshakes of both are counted together. The bound of
    /// the new context is valid from its first connection.
    ///
    /// Errors     As server().
    result<tls_context> renewed(const tls_server_options& options) const;

    /// The handshakes in progress; of a server those whose clients have sent their first message.
    std::size_t handshake_count() const noexcept;

    detail::tls_context_state& state() const noexcept { return *state_; }

private:
    friend class tls_stream;
    explicit tls_context(std::shared_ptr<detail::tls_context_state> state) noexcept
        : state_(std::move(state)) {}

    std::shared_ptr<detail::tls_context_state> state_;
};

}  // namespace kevring
