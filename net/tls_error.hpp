// tls_error.hpp: the conditions that TLS adds to those of the system.
#pragma once

#include <kevring/runtime/detail/language.hpp>

#include <system_error>

namespace kevring {

/// Conditions of a TLS connection or context. The text of an error adds the cause that the TLS
/// library reports.
///
///     if (received.error() == tls_errc::truncated) ...
enum class tls_errc {
    truncated = 1,     ///< the connection ended without a close_notify: bytes may be missing
    protocol_error,    ///< the peer sent bytes that are no valid TLS, or offers no common version
    rejected_by_peer,  ///< the peer ended the connection by a fatal alert
    certificate_untrusted,  ///< no chain from the peer's certificate to a trusted authority
    certificate_expired,    ///< a certificate of the chain is not valid at this time
    host_mismatch,  ///< the certificate is for other host names than the one that was asked for
    no_protocol,    ///< ALPN: client and server have no protocol in common
    key_update_refused,  ///< the peer changed keys within the connection
    bad_certificate_file,  ///< a file of a server's or client's own certificates is no valid PEM chain
    bad_key_file,          ///< a file of a private key is no valid PEM key, or needs a pass phrase
    key_mismatch,          ///< the private key belongs to another certificate
    bad_authority_file,  ///< a file of trusted authorities is no valid PEM
};

/// The category of these errors: "tls".
const std::error_category& tls_category() noexcept;

inline std::error_condition make_error_condition(tls_errc condition) noexcept {
    return {static_cast<int>(condition), tls_category()};
}

namespace detail {
/// The error of `condition`, with a reason code of the TLS library; 0: none.
std::error_code tls_error(tls_errc condition, int reason = 0) noexcept;
}  // namespace detail

}  // namespace kevring

template <>
struct std::is_error_condition_enum<kevring::tls_errc> : std::true_type {};
