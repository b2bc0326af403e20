// bench/support/stream_libuv.cpp: echo and sink on libuv.
//
// Each read is sent back by uv_try_write(), which makes no request; bytes that the socket does not accept are
// copied into a uv_write() request, and reading stops until it has ended. All connections share one receive buffer.
#include "bench/support/baseline.hpp"

#include <uv.h>

#include <memory>
#include <vector>

namespace {

using namespace kevring::bench;

struct loop_state {
    const baseline_options& options;
    std::vector<char> buffer;
};

struct connection {
    uv_tcp_t handle;  // first: libuv returns a pointer to it
    uv_write_t request;
    std::vector<char> rest;
};

loop_state& state_of(uv_handle_t* handle) { return *static_cast<loop_state*>(handle->loop->data); }

void close_connection(connection& one) {
    auto* handle = reinterpret_cast<uv_handle_t*>(&one.handle);
    if (uv_is_closing(handle)) return;
    uv_close(handle, [](uv_handle_t* closed) { delete reinterpret_cast<connection*>(closed); });
}

void lend_buffer(uv_handle_t* handle, std::size_t, uv_buf_t* buffer) {
    auto& bytes = state_of(handle).buffer;
    *buffer = uv_buf_init(bytes.data(), static_cast<unsigned>(bytes.size()));
}

void received(uv_stream_t* stream, ssize_t count, const uv_buf_t* buffer);

void written(uv_write_t* request, int error) {
    auto& one = *static_cast<connection*>(request->data);
    one.rest.clear();
    if (error != 0) return close_connection(one);
    uv_read_start(reinterpret_cast<uv_stream_t*>(&one.handle), lend_buffer, received);
}

void received(uv_stream_t* stream, ssize_t count, const uv_buf_t* buffer) {
    auto& one = *reinterpret_cast<connection*>(stream);
    if (count < 0) return close_connection(one);
    if (count == 0) return;  // as EAGAIN
    if (state_of(reinterpret_cast<uv_handle_t*>(stream)).options.work == stream_work::sink) return;
    const uv_buf_t bytes = uv_buf_init(buffer->base, static_cast<unsigned>(count));
    int sent = uv_try_write(stream, &bytes, 1);
    if (sent == UV_EAGAIN) sent = 0;
    if (sent < 0) return close_connection(one);
    if (sent == count) return;
    one.rest.assign(buffer->base + sent, buffer->base + count);
    uv_read_stop(stream);
    const uv_buf_t rest = uv_buf_init(one.rest.data(), static_cast<unsigned>(one.rest.size()));
    one.request.data = &one;
    if (uv_write(&one.request, stream, &rest, 1, written) != 0) close_connection(one);
}

void accepted(uv_stream_t* listener, int error) {
    if (error != 0) return;
    auto one = std::make_unique<connection>();
    uv_tcp_init(listener->loop, &one->handle);
    connection* const opened = one.release();  // the close callback destroys it
    auto* stream = reinterpret_cast<uv_stream_t*>(&opened->handle);
    if (uv_accept(listener, stream) != 0 || uv_read_start(stream, lend_buffer, received) != 0)
        return close_connection(*opened);
    uv_tcp_nodelay(&opened->handle, 1);
}

void serve(int socket, const baseline_options& options) {
    loop_state state{options, std::vector<char>(options.buffer_bytes)};
    uv_loop_t loop;
    uv_tcp_t listener;
    if (uv_loop_init(&loop) != 0) baseline_failed("uv_loop_init");
    loop.data = &state;
    uv_tcp_init(&loop, &listener);
    if (uv_tcp_open(&listener, socket) != 0) baseline_failed("uv_tcp_open");
    if (uv_listen(reinterpret_cast<uv_stream_t*>(&listener), 4096, accepted) != 0)
        baseline_failed("uv_listen");
    uv_run(&loop, UV_RUN_DEFAULT);
}

}  // namespace

int main(int argc, char** argv) {
    const auto options = parse_baseline_options(argc, argv);
    if (options.work != stream_work::echo && options.work != stream_work::sink)
        baseline_usage("stream_libuv has the works echo and sink");
    baseline_serve(options, [&options](int listener) { serve(listener, options); });
}
