// tls_stream.hpp: a connection whose bytes are encrypted by TLS.
#pragma once

#include <kevring/net/endpoint.hpp>
#include <kevring/net/socket.hpp>
#include <kevring/net/socket_options.hpp>
#include <kevring/net/tls_context.hpp>
#include <kevring/net/tls_error.hpp>
#include <kevring/runtime/buffer_pool.hpp>
#include <kevring/runtime/byte_views.hpp>
#include <kevring/runtime/clock.hpp>
#include <kevring/runtime/fd.hpp>
#include <kevring/runtime/operations/send.hpp>
#include <kevring/runtime/result.hpp>
#include <kevring/runtime/ring.hpp>
#include <kevring/runtime/task.hpp>

#include <chrono>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kevring {

/// A TLS connection over a socket, with the awaits of `socket`: code that is a template over the type
/// of its connection serves both.
///
///     const auto trust = tls_context::client();
///     auto server = co_await tls_stream::connect(std::move(connected), *trust, "example.org");
///     co_await server->send("hello");
///     auto received = co_await server->receive();
///
/// TLS 1.2 and 1.3. Renegotiation is refused, and a peer that updates its keys within the connection
/// ends it (key_update_refused): neither is needed below 2^24 records, some 256 GiB.
///
/// Lifetime   Outlives every await on it; within the life of its ring. The destructor closes the
///            connection without a close_notify, which the peer takes for a truncation: use close().
/// Thread     The ring's own.
/// In flight  One receive and one send at a time, concurrently. A second receive or send ends with
///            connection_already_in_progress.
/// Memory     An idle connection holds some 10 KiB, and no buffers.
class tls_stream {
public:
    /// The handshake of a client. The server's certificate must be for `host_name`, a name or the
    /// text of an IP address. A session of an earlier connection to the name is resumed.
    ///
    /// Errors     Those of tls_errc; timed_out after tls_client_options::handshake_timeout;
    ///            operation_canceled; invalid_argument for an empty name where certificates are
    ///            verified; those of socket::receive() and send(). The connection is closed then,
    ///            after the alert that TLS requires.
    /// Thread     The ring's own.
    static task<result<tls_stream>> connect(socket connected, tls_context context,
                                            std::string host_name);
    /// The handshake of a server.
    ///
    /// Errors     As connect(), with tls_server_options::handshake_timeout.
    /// Thread     The ring's own.
    static task<result<tls_stream>> accept(socket accepted, tls_context context);

    tls_stream(tls_stream&& other) noexcept;
    tls_stream& operator=(tls_stream&& other) noexcept;
    ~tls_stream();

    /// Receives what has come.
    ///
    /// Result     At least one byte; an empty buffer once the peer has sent a close_notify.
    /// Errors     truncated if the connection ends without a close_notify; other conditions of
    ///            tls_errc; bad_file_descriptor after close(); as socket::receive(). After an error of
    ///            the scope, such as timed_out, no byte is lost.
    task<result<borrowed_buffer>> receive();
    /// Receives at least one and at most `buffer.size()` bytes into the caller's memory; both forms can
    /// be used on one connection.
    ///
    /// Result     The number of bytes; 0 once the peer has sent a close_notify.
    /// Errors     As receive(); invalid_argument for an empty `buffer`.
    /// Lifetime   `buffer` stays valid until the await completes.
    task<result<std::size_t>> receive(std::span<std::byte> buffer);

    /// Sends all of `bytes`.
    ///
    /// Result     The number of bytes, which is all of them.
    /// Errors     broken_pipe after shutdown_send(); bad_file_descriptor after close(); as
    ///            socket::send(). send_result::bytes_sent() is the number of bytes that were encrypted:
    ///            after operation_canceled and timed_out the next send() begins with the part of them
    ///            that the kernel has not accepted, so the caller continues after these bytes.
    /// Lifetime   `bytes` stay valid until the await completes.
    task<send_result> send(std::span<const std::byte> bytes);
    task<send_result> send(std::string_view text);
    template <byte_view Bytes>
    task<send_result> send(const Bytes& bytes) {
        return send(bytes_of(bytes));
    }
    /// Sends the bytes of all elements of a list, in order; the list itself is not used after the call.
    ///
    /// In flight  Another send can come between two elements.
    template <byte_view_list List>
    task<send_result> send(const List& list) {
        return send_parts(detail::parts_of(list));
    }

    /// Ends the sending side: sends a close_notify and shuts the sending side of the socket down.
    /// Receiving continues. A peer with TLS 1.2 may answer by the end of its own side.
    ///
    /// Errors     connection_already_in_progress while a send is pending; as send(). After
    ///            operation_canceled and timed_out it can be called again.
    task<result<void>> shutdown_send();

    /// Ends the connection so that the peer gets all that was sent, and a close_notify; see
    /// socket::close(). A receive or send that is pending ends with operation_canceled, and after such
    /// a send there is no close_notify.
    task<void> close(clamped_duration linger_timeout = std::chrono::seconds(2));
    /// The same for a peer that sends nothing more; see socket::close_without_lingering(). Bytes that
    /// the peer does not accept within 2 s are lost.
    task<void> close_without_lingering();

    result<void> set(const socket_options& options) noexcept;
    result<endpoint> local() const noexcept;
    result<endpoint> peer() const noexcept;

    /// The protocol that ALPN selected; empty: none.
    std::string_view protocol() const noexcept;
    /// "TLSv1.2" or "TLSv1.3".
    std::string_view version() const noexcept;
    /// Such as "TLS_AES_128_GCM_SHA256".
    std::string_view cipher() const noexcept;
    /// Of an accepted connection: the host name that the client asked for; empty: none.
    std::string_view server_name() const noexcept;
    /// True if the handshake resumed an earlier session.
    bool resumed() const noexcept;

    ring& loop() const noexcept;
    /// The descriptor of the connection, for its options and state: its bytes are encrypted.
    fd_ref native() const noexcept;

private:
    task<send_result> send_parts(std::vector<iovec> parts);
    struct state;
    class busy;

    explicit tls_stream(std::unique_ptr<state> connected) noexcept;
    static task<result<tls_stream>> handshake(socket connection, tls_context context,
                                              std::string host_name);
    static task<std::error_code> shake_hands(state& self, const std::string& host_name,
                                             const tls_context& context);
    static task<std::error_code> flush(state& self);
    static task<void> end(state& self, clamped_duration linger_timeout, bool lingers);

    std::unique_ptr<state> state_;
};

}  // namespace kevring
