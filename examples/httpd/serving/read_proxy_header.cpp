// read_proxy_header.cpp: the PROXY header at the beginning of a proxy's connection.
#include "connection.hpp"

#include "examples/httpd/http/proxy_header.hpp"

#include <optional>
#include <string>
#include <utility>

#include <sys/socket.h>

namespace httpd {

std::optional<ip_address> address_of(const kevring::socket& client) {
    const auto peer = client.peer();
    if (!peer || peer->family() == AF_UNIX) return std::nullopt;
    return ip_address::parse(peer->host());
}

// Whether the other end must send the header. Its address is asked for only where proxies are named.
bool connection::expects_proxy_header() {
    const configuration& now = *worker_.current_configuration();
    return !now.proxy_protocol.empty() && now.proxy_protocol.contains(address_of(client_));
}

// A connection without the header is ended: its bytes would be taken for those of the proxy.
//
// Result     The bytes after the header; nothing if the connection must end.
kevring::task<std::optional<std::string>> connection::read_proxy_header() {
    extend_timeout(worker_.options().head_time);
    std::string bytes;
    proxy_header header;
    while (header.outcome == proxy_header::state::incomplete) {
        const auto received = co_await client_.receive();
        if (!received || received->empty()) co_return std::nullopt;
        bytes.append(reinterpret_cast<const char*>(received->data()), received->size());
        header = parse_proxy_header(bytes);
    }
    if (header.outcome == proxy_header::state::malformed) co_return std::nullopt;
    peer_ = std::make_unique<peer_address>();
    peer_->address = header.client ? header.client : address_of(client_);
    if (header.client && !worker_.count_address(*header.client, peer_->counted))
        co_return std::nullopt;
    bytes.erase(0, header.byte_count);
    co_return bytes;
}

// Reads the header, and answers the requests that came with it.
kevring::task<connection::outcome> connection::begin_proxied() {
    idle_ = false;
    std::optional<std::string> rest = co_await read_proxy_header();
    if (!rest) co_return outcome::close_without_lingering;
    if (rest->empty()) co_return outcome::keep;
    kevring::borrowed_buffer none;
    const outcome after = co_await handle_requests(std::move(none), std::move(*rest));
    held_.reset();
    co_return after;
}

}  // namespace httpd
