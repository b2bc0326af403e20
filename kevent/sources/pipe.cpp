// pipe.cpp: one end of a pipe or FIFO.
#include <kevring/kevent/sources/stream_source.hpp>

namespace kevring::detail {
namespace {

// An end of a pipe reports POLLHUP without writers, and POLLERR without readers
// (poll(2)). Data that is left counts before the missing writers (K-109).
struct pipe_kind {
    static constexpr mode_t file_type = S_IFIFO;
    static constexpr int other_file_error = EINVAL;
    static constexpr std::uint32_t input_events = KEVENT_SOCKET_RECV;
    static constexpr std::uint32_t end_bits = POLLERR | POLLHUP;

    static bool can_send(std::uint32_t, std::uint32_t poll_bits) noexcept {
        return (poll_bits & POLLERR) == 0;
    }
    static std::uint32_t count(int, std::uint32_t) noexcept { return 0; }
};

}  // namespace

result<std::unique_ptr<source>> make_pipe_source(source_host& host, registration& target) {
    return stream_source<pipe_kind>::make(host, target);
}

}  // namespace kevring::detail
