// sendfile.cpp: the kernel takes the bytes from the page cache, in turns, as long as they are
// there.
#include <kevring/sendfile/detail/window_pool.hpp>
#include <kevring/sendfile/paths/paths.hpp>

#include <algorithm>
#include <cerrno>

namespace kevring::detail {
namespace {

// From this much on the segments that are saved are worth three calls more.
constexpr std::uint64_t corked_bytes_min = 512 * 1024;

// Holds back what is less than a segment while one transfer goes out in many pieces.
//
// sendfile(2) hands TCP 64 KiB at a time, which is no whole number of segments, and MSG_MORE holds
// the rest only until an acknowledgement comes in between. A rate is kept by waiting, and what was
// released must not wait for the next step: then nothing is held.
class corked {
public:
    explicit corked(transfer& of) noexcept : of_(of) {
        const bool is_worth_it = of.plan.file_left() >= corked_bytes_min && !of.pace.limited();
        holds_ = is_worth_it && of.on.system().cork(of.socket.number()) > 0;
    }
    corked(const corked&) = delete;
    corked& operator=(const corked&) = delete;
    ~corked() {
        if (holds_) of_.on.system().uncork(of_.socket.number());
    }

private:
    transfer& of_;
    bool holds_;
};

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
    const corked held(of);
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
