// read_body.cpp: the body of a request, which is read over so that the next request can be found.
#include "connection.hpp"
#include "examples/httpd/http/body_reader.hpp"

#include <system_error>
#include <utility>

namespace httpd {

// Result     False if the connection ends; an error response is sent then.
kevring::task<bool> connection::read_body(request_batch& batch) {
    const request_head& head = batch.parser.head();
    body_reader body(head, configuration_->options.body_bytes_max);
    batch.rest.remove_prefix(body.read(batch.rest));
    if (body.state() == body_state::incomplete) {
        extend_timeout(configuration_->options.body_time);  // for all of it
        if (head.expects() == expectation::continue_100 && batch.rest.empty()) {
            const bool appended = co_await append(continue_response, batch.out);
            if (!appended) co_return false;
        }
        const bool sent = co_await flush(batch.out);
        if (!sent) co_return false;
    }
    while (body.state() == body_state::incomplete) {
        auto more = co_await receive();
        if (!more && more.error() == std::errc::timed_out) send_timed_out(batch);
        if (!more || more->empty()) co_return false;
        batch.further = std::move(*more);
        batch.rest = {reinterpret_cast<const char*>(batch.further.data()), batch.further.size()};
        batch.rest.remove_prefix(body.read(batch.rest));
    }
    if (body.state() != body_state::complete) {
        const unsigned status = body.state() == body_state::too_large ? 413 : 400;
        co_await send_error(status, head, batch.out);
        co_return false;
    }
    co_return true;
}

}  // namespace httpd
