#include <kevring/net/tls_error.hpp>

#include <kevring/net/detail/tls_engine.hpp>

#include <string>

namespace kevring {
namespace {

// A value is the condition, and above it the reason of the TLS library.
constexpr int condition_bits = 8;

tls_errc condition_of(int value) noexcept {
    return static_cast<tls_errc>(value & ((1 << condition_bits) - 1));
}

const char* text_of(tls_errc condition) noexcept {
    switch (condition) {
        case tls_errc::truncated: return "the connection ended without a close_notify";
        case tls_errc::protocol_error: return "the peer violated the TLS protocol";
        case tls_errc::rejected_by_peer: return "the peer ended the connection by an alert";
        case tls_errc::certificate_untrusted: return "the peer's certificate is not trusted";
        case tls_errc::certificate_expired:
            return "the peer's certificate is not valid at this time";
        case tls_errc::host_mismatch: return "the peer's certificate is for another host name";
        case tls_errc::no_protocol: return "client and server have no ALPN protocol in common";
        case tls_errc::key_update_refused: return "the peer changed keys within the connection";
        case tls_errc::bad_certificate_file: return "the certificate file is no valid PEM chain";
        case tls_errc::bad_key_file:
            return "the key file is no valid PEM key without a pass phrase";
        case tls_errc::key_mismatch: return "the private key belongs to another certificate";
        case tls_errc::bad_authority_file: return "the file of trusted authorities is no valid PEM";
    }
    return "unknown TLS error";
}

class category final : public std::error_category {
public:
    const char* name() const noexcept override { return "tls"; }
    std::string message(int value) const override {
        const tls_errc condition = condition_of(value);
        std::string text = text_of(condition);
        const std::string reason = detail::tls_reason_text(condition, value >> condition_bits);
        if (!reason.empty()) text += " (" + reason + ")";
        return text;
    }
    std::error_condition default_error_condition(int value) const noexcept override {
        return make_error_condition(condition_of(value));
    }
};

}  // namespace

const std::error_category& tls_category() noexcept {
    static const category only;
    return only;
}

std::error_code detail::tls_error(tls_errc condition, int reason) noexcept {
    return {static_cast<int>(condition) | reason << condition_bits, tls_category()};
}

}  // namespace kevring
