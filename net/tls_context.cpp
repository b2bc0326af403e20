#include <kevring/net/tls_context.hpp>

#include <kevring/net/detail/tls_engine.hpp>

#include <utility>

namespace kevring {

bool tls_context::available() noexcept { return detail::tls_available(); }

result<tls_context> tls_context::client(const tls_client_options& options) {
    auto made = detail::make_tls_client(options);
    if (!made) return tl::unexpected(made.error());
    return tls_context(std::move(*made));
}

result<tls_context> tls_context::server(const tls_server_options& options) {
    auto made = detail::make_tls_server(options);
    if (!made) return tl::unexpected(made.error());
    return tls_context(std::move(*made));
}

result<void> tls_context::reload() const { return state_->reload(); }

result<tls_context> tls_context::renewed(const tls_server_options& options) const {
    auto made = server(options);
    if (!made) return made;
    made->state_->keep_ticket_keys(*state_);
    made->state_->share_handshakes(*state_);
    return made;
}

std::size_t tls_context::handshake_count() const noexcept {
    return state_->handshakes->held_count();
}

}  // namespace kevring
