// sendfile.cpp: the kernel takes the bytes from the page cache, in turns, as long as they are
// there.
#include <kevring/sendfile/detail/window_pool.hpp>
#include <kevring/sendfile/paths/paths.hpp>

#include <algorithm>
#include <cerrno>

namespace kevring::detail {
namespace {

// Errors with which sendfile(2) says "not with these descriptors".
bool says_unsupported(ssize_t answer) noexcept {
    return answer == -EINVAL || answer == -ENOSYS || answer == -EOPNOTSUPP || answer == -ESPIPE;
}

}  // namespace

// The kernel copies nothing here: what is written to the file between this call and the peer's
// acknowledgement can reach the peer. check_version() before the last turn finds what was written
// before it; options.by_copy is for files that are written in place.
task<std::error_code> carry_by_sendfile(transfer& of) {
    constexpr send_path path = send_path::sendfile;
    kernel& system = of.on.system();
    // sendfile(2) on a blocking socket waits in the call for the peer.
    if (!may_call_directly(of)) {
        of.refuse(path);
        co_return std::error_code{};
    }
    quiet_broken_pipes();
    bool has_moved = false;
    while (!of.plan.done()) {
        const send_step frame = of.plan.single(0);
        if (frame.byte_count() > 0) {
            const std::error_code error = co_await send_frame_now(of, path, frame);
            if (error) co_return error;
            continue;
        }
        const std::error_code stopped = co_await wait_for_turn(of, has_moved);
        if (stopped) co_return stopped;
        if (!of.window_is_resident() && !of.forced()) co_return std::error_code{};

        const std::uint64_t window_left = of.window_end() - of.plan.file_offset();
        const send_step step = of.plan.single(std::min<std::size_t>(
            static_cast<std::size_t>(window_left), of.step_bytes_max(window_bytes)));
        if (step.ends_file)
            if (const std::error_code changed = of.check_version()) co_return changed;

        auto offset = static_cast<off_t>(step.file_offset);
        const ssize_t sent =
            system.send_file(of.socket.number(), of.file.number(), &offset, step.file_bytes);
        if (sent > 0) {
            of.taken(path, static_cast<std::uint64_t>(sent));
            count_in_turn(of.on, static_cast<std::size_t>(sent));
            has_moved = true;
            if (static_cast<std::size_t>(sent) == step.file_bytes) continue;
            // Short: the socket is full, or the file has ended, which the next call will say.
        } else if (sent == 0) {
            co_return send_errc::file_shrank;
        } else if (sent == -EINTR) {
            continue;
        } else if (says_unsupported(sent)) {
            of.refuse(path);
            co_return std::error_code{};
        } else if (sent != -EAGAIN) {
            if (sent == -EPIPE) forget_broken_pipe();
            co_return std::error_code(static_cast<int>(-sent), std::system_category());
        }
        const std::error_code error = co_await wait_writable(of);
        if (error) co_return error;
        has_moved = false;  // the wait has let others go first
    }
    co_return std::error_code{};
}

}  // namespace kevring::detail
