// bench/support/stream_libevent.cpp: echo and sink on the bufferevents of libevent.
//
// The received chain is moved to the output, so that libevent copies no byte. Reading stops while more than
// output_bytes_max are unsent. libevent 2.1 receives at most 4096 bytes for each event, which decides the rows of large messages.
#include "bench/support/baseline.hpp"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>

namespace {

using namespace kevring::bench;

constexpr std::size_t output_bytes_max = std::size_t{1} << 20;

void received(bufferevent* stream, void* context) {
    const auto& options = *static_cast<const baseline_options*>(context);
    evbuffer* const input = bufferevent_get_input(stream);
    if (options.work == stream_work::sink) {
        evbuffer_drain(input, evbuffer_get_length(input));
        return;
    }
    evbuffer* const output = bufferevent_get_output(stream);
    bufferevent_write_buffer(stream, input);
    if (evbuffer_get_length(output) > output_bytes_max) bufferevent_disable(stream, EV_READ);
}

void sent(bufferevent* stream, void*) { bufferevent_enable(stream, EV_READ); }

// After the peer has shut down its sending side, unsent bytes are sent before the connection is closed.
void drained(bufferevent* stream, void*) { bufferevent_free(stream); }
void failed(bufferevent* stream, short, void*) { bufferevent_free(stream); }

void ended(bufferevent* stream, short kinds, void*) {
    if ((kinds & BEV_EVENT_EOF) == 0 || evbuffer_get_length(bufferevent_get_output(stream)) == 0)
        return bufferevent_free(stream);
    bufferevent_setcb(stream, nullptr, drained, failed, nullptr);
}

void accepted(evconnlistener* listener, evutil_socket_t socket, sockaddr*, int, void* context) {
    const auto& options = *static_cast<const baseline_options*>(context);
    event_base* const base = evconnlistener_get_base(listener);
    bufferevent* const stream = bufferevent_socket_new(base, socket, BEV_OPT_CLOSE_ON_FREE);
    if (stream == nullptr) {
        ::close(socket);
        return;
    }
    bufferevent_set_max_single_read(stream, options.buffer_bytes);
    bufferevent_set_max_single_write(stream, options.buffer_bytes);
    bufferevent_setcb(stream, received, sent, ended, context);
    bufferevent_enable(stream, EV_READ | EV_WRITE);
}

void serve(int socket, const baseline_options& options) {
    event_base* const base = event_base_new();
    if (base == nullptr) baseline_failed("event_base_new");
    evutil_make_socket_nonblocking(socket);
    auto* const context = const_cast<baseline_options*>(&options);
    evconnlistener* const listener =
        evconnlistener_new(base, accepted, context, LEV_OPT_CLOSE_ON_FREE, 0, socket);
    if (listener == nullptr) baseline_failed("evconnlistener_new");
    event_base_dispatch(base);
}

}  // namespace

int main(int argc, char** argv) {
    const auto options = parse_baseline_options(argc, argv);
    if (options.work != stream_work::echo && options.work != stream_work::sink)
        baseline_usage("stream_libevent has the works echo and sink");
    baseline_serve(options, [&options](int listener) { serve(listener, options); });
}
