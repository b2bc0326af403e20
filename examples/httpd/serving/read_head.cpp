// read_head.cpp: the bytes of a head that are still missing.
#include "connection.hpp"

#include <string>
#include <system_error>

#include <sys/socket.h>

namespace httpd {

// Receives until the head is complete or refused. The responses before it are sent first: the client
// may wait for them.
//
// Result     False if the connection ends.
kevring::task<bool> connection::read_head(request_batch& batch) {
    if (!batch.out.empty()) {
        const bool sent = co_await flush(batch.out);
        if (!sent) co_return false;
    }
    const std::string_view input = batch.input;
    if (batch.collected.empty()) {
        batch.collected = input;
        batch.buffer.reset();  // a slow client holds no buffer of the pool
    } else {
        batch.collected.erase(0, batch.collected.size() - input.size());  // the head before it
    }
    batch.input = batch.collected;
    extend_timeout(configuration_->options.head_time);
    while (batch.parser.parse(batch.input) == parse_state::incomplete) {
        const auto more = co_await receive();
        if (!more && more.error() == std::errc::timed_out) send_timed_out(batch);
        if (!more || more->empty()) co_return false;
        batch.collected.append(reinterpret_cast<const char*>(more->data()), more->size());
        batch.input = batch.collected;
    }
    select_configuration();  // a reload may have come in the meantime
    co_return true;
}

// Sends 408 without waiting: a client that is too slow to ask may be too slow to receive.
void connection::send_timed_out(const request_batch& batch) noexcept {
    // Within a response; or bytes that would have to be encrypted, which may wait.
    if (!batch.out.empty() || tls_ != nullptr) return;
    const std::string lines = site_->common_lines();
    const std::string_view page = site_->responses.page(408);
    std::string buffer(short_response_bytes + lines.size() + page.size(), '\0');
    short_response response;
    response.status = 408;
    response.date = worker_.date();
    response.lines = lines;
    response.body = page;
    const std::string_view text = httpd::write_short_response(buffer, response);
    static_cast<void>(
        !::send(client_.native().number(), text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL));
}

}  // namespace httpd
