// socket.cpp: sockets that can be received from, accepted from or sent to.
#include <kevring/kevent/sources/stream_source.hpp>

namespace kevring::detail {
namespace {

struct socket_kind {
    static constexpr mode_t file_type = S_IFSOCK;
    static constexpr int other_file_error = ENOTSOCK;
    static constexpr std::uint32_t input_events = KEVENT_SOCKET_RECV | KEVENT_SOCKET_ACCEPT;
    static constexpr std::uint32_t end_bits = POLLERR | POLLHUP | POLLRDHUP;

    // A connection that is dead reports room to send as well. Who only sends would never hear of
    // the failure, if that counted.
    static bool can_send(std::uint32_t event, std::uint32_t poll_bits) noexcept {
        const bool only_sends = (event & input_events) == 0;
        const bool failed = (poll_bits & (POLLERR | POLLHUP)) != 0;
        return !(only_sends && failed);
    }
};

}  // namespace

result<std::unique_ptr<source>> make_socket_source(source_host& host, registration& of) {
    return stream_source<socket_kind>::make(host, of);
}

}  // namespace kevring::detail
