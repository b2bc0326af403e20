// without_openssl.cpp: the replacement of openssl.cpp in a build without TLS.
#include <kevring/net/detail/tls_engine.hpp>

namespace kevring::detail {

bool tls_available() noexcept { return false; }

result<std::shared_ptr<tls_context_state>> make_tls_client(const tls_client_options&) {
    return error_from(std::errc::function_not_supported);
}

result<std::shared_ptr<tls_context_state>> make_tls_server(const tls_server_options&) {
    return error_from(std::errc::function_not_supported);
}

std::string tls_reason_text(tls_errc, int) { return {}; }

}  // namespace kevring::detail
