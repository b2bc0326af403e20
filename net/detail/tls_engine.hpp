// tls_engine.hpp: TLS without a socket: bytes of the connection on one side, of the program on the
// other. Only openssl.cpp knows the TLS library.
#pragma once

#include <kevring/net/detail/handshake_places.hpp>
#include <kevring/net/tls_context.hpp>
#include <kevring/net/tls_error.hpp>
#include <kevring/runtime/buffer_pool.hpp>
#include <kevring/runtime/clock.hpp>
#include <kevring/runtime/result.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace kevring::detail {

enum class tls_progress : std::uint8_t {
    done,
    needs_input,  // more bytes of the connection
    ended,        // the peer has sent a close_notify
    failed        // see failure
};

/// One connection. No member waits.
///
/// Thread     That of the connection's loop.
class tls_engine {
public:
    virtual ~tls_engine() = default;
    tls_engine(const tls_engine&) = delete;
    tls_engine& operator=(const tls_engine&) = delete;

    virtual tls_progress handshake() noexcept = 0;
    /// Decrypts at most `target.size()` bytes out of `input`. `done`: at least one.
    virtual tls_progress decrypt(std::span<std::byte> target, std::size_t& byte_count) noexcept = 0;
    /// An upper bound of the bytes that decrypt() can produce without more input; 0: none.
    virtual std::size_t decryptable_bytes_max() const noexcept = 0;
    /// Appends all of `bytes` to `output`. False: see failure.
    virtual bool encrypt(std::span<const std::byte> bytes) noexcept = 0;
    /// Appends a close_notify.
    virtual void end_sending() noexcept = 0;

    // After the handshake.
    virtual std::string_view protocol() const noexcept = 0;
    virtual std::string_view version() const noexcept = 0;
    virtual std::string_view cipher() const noexcept = 0;
    virtual std::string_view server_name() const noexcept = 0;
    virtual bool resumed() const noexcept = 0;

    borrowed_buffer input;          // received, and not decrypted
    std::vector<std::byte> output;  // to be sent
    std::error_code failure;        // the connection cannot be used further

protected:
    tls_engine() = default;
};

/// The state that the copies of a tls_context share.
///
/// Thread     Any.
class tls_context_state {
public:
    tls_context_state(std::size_t handshakes_max, nanoseconds timeout)
        : handshakes(std::make_shared<handshake_places>()),
          handshake_count_max(handshakes_max),
          handshake_timeout(timeout) {
        handshakes->set_bound(handshake_count_max, version);
    }
    virtual ~tls_context_state() = default;
    tls_context_state(const tls_context_state&) = delete;
    tls_context_state& operator=(const tls_context_state&) = delete;

    virtual result<void> reload() = 0;
    /// True for clients.
    virtual bool sends_first() const noexcept = 0;
    /// Accepts the tickets of `previous`, which is of the same kind.
    virtual void keep_ticket_keys(tls_context_state& previous) noexcept = 0;
    /// Counts its handshakes together with those of `previous`. Called before the first handshake.
    void share_handshakes(const tls_context_state& previous) noexcept {
        handshakes = previous.handshakes;
        version = handshakes->next_version();
    }
    /// The engine of a connection to `host_name`, or of an accepted one.
    virtual result<std::unique_ptr<tls_engine>> make_engine(std::shared_ptr<tls_context_state> self,
                                                            const std::string& host_name) = 0;

    // Constant after construction and share_handshakes().
    std::shared_ptr<handshake_places> handshakes;
    std::uint64_t version = 1;  // a context that continues another one has a higher one
    const std::size_t handshake_count_max;
    const nanoseconds handshake_timeout;
};

// Of openssl.cpp, or of without_openssl.cpp.
bool tls_available() noexcept;
result<std::shared_ptr<tls_context_state>> make_tls_client(const tls_client_options& options);
result<std::shared_ptr<tls_context_state>> make_tls_server(const tls_server_options& options);
/// The text for a reason code; empty for 0.
std::string tls_reason_text(tls_errc condition, int reason);

}  // namespace kevring::detail
