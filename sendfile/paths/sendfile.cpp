// sendfile.cpp: the kernel takes the bytes from the page cache, in turns, as long as they are
// there.
#include <kevring/sendfile/detail/window_pool.hpp>
#include <kevring/sendfile/paths/paths.hpp>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace kevring::detail {
namespace {

// Where direct calls have come to.
enum class push_end { all_sent, socket_full, turn_over, other_path, failed };

struct push_result {
    push_end end;
    std::error_code error;

    static push_result of_errno(ssize_t negated_errno) noexcept {
        return {push_end::failed, {static_cast<int>(-negated_errno), std::system_category()}};
    }
};

// Errors with which sendfile(2) says "not with these descriptors".
bool says_unsupported(ssize_t answer) noexcept {
    return answer == -EINVAL || answer == -ENOSYS || answer == -EOPNOTSUPP || answer == -ESPIPE;
}

// Moves on as far as calls go that do not wait: header and trailer, and one window of the file for
// a turn of the loop, which the transfer has or has yet to wait for.
//
// The kernel copies nothing here: what is written to the file between this call and the peer's
// acknowledgement can reach the peer. check_version() before the last turn finds what was written
// before it; options.by_copy is for files that are written in place.
push_result push(transfer& of, bool has_turn) {
    constexpr send_path path = send_path::sendfile;
    while (!of.plan.done()) {
        if (of.plan.in_frame()) {
            const ssize_t sent = send_frame_part(of);
            if (sent >= 0)
                of.taken(path, static_cast<std::uint64_t>(sent));
            else if (sent == -EAGAIN)
                return {push_end::socket_full, {}};
            else if (sent != -EINTR)
                return push_result::of_errno(sent);
            continue;
        }
        if (!has_turn) return {push_end::turn_over, {}};
        if (!of.window_is_resident() && !of.forced()) return {push_end::other_path, {}};

        const std::uint64_t window_left = of.window_end() - of.plan.file_offset();
        const send_step step = of.plan.single(std::min<std::size_t>(
            static_cast<std::size_t>(window_left), of.step_bytes_max(sendfile_window_bytes)));
        if (step.ends_file)
            if (const std::error_code changed = of.check_version())
                return {push_end::failed, changed};

        auto offset = static_cast<off_t>(step.file_offset);
        const ssize_t sent = of.on.system().send_file(of.socket.number(), of.file.number(), &offset,
                                                      step.file_bytes);
        if (sent > 0) {
            of.taken(path, static_cast<std::uint64_t>(sent));
            count_in_turn(of.on, static_cast<std::size_t>(sent));
            of.has_moved = true;
            has_turn = false;
            // Short: the socket is full, or the file has ended, which the next call will say.
            if (static_cast<std::size_t>(sent) < step.file_bytes)
                return {push_end::socket_full, {}};
        } else if (sent == 0) {
            return {push_end::failed, send_errc::file_shrank};
        } else if (sent == -EAGAIN) {
            return {push_end::socket_full, {}};
        } else if (says_unsupported(sent)) {
            of.refuse(path);
            return {push_end::other_path, {}};
        } else if (sent != -EINTR) {
            if (sent == -EPIPE) forget_broken_pipe();
            return push_result::of_errno(sent);
        }
    }
    return {push_end::all_sent, {}};
}

}  // namespace

std::optional<std::error_code> carry_at_once(transfer& of) {
    if (of.plan.done() || of.stopped()) return std::nullopt;
    const path_choice first = choose_path(of);
    if (first.row->path != send_path::sendfile || !turn_is_free(of) || !of.may_call_directly())
        return std::nullopt;
    of.uses(first.row->path, first.reason);
    quiet_broken_pipes();
    const push_result pushed = push(of, true);
    if (pushed.end == push_end::all_sent) return std::error_code{};
    of.is_full = pushed.end == push_end::socket_full;
    of.is_under_way = of.is_full || pushed.end == push_end::turn_over;
    // A file that has become shorter may be carried on with: its end is looked for elsewhere.
    const bool goes_on = pushed.error == send_errc::file_shrank && of.options.stop_at_end;
    if (pushed.end == push_end::failed && !goes_on) return pushed.error;
    return std::nullopt;
}

task<std::error_code> carry_by_sendfile(transfer& of) {
    // sendfile(2) on a blocking socket waits in the call for the peer.
    if (!std::exchange(of.is_under_way, false) && !of.may_call_directly()) {
        of.refuse(send_path::sendfile);
        co_return std::error_code{};
    }
    quiet_broken_pipes();
    push_result pushed{push_end::socket_full, {}};
    if (!std::exchange(of.is_full, false)) pushed = push(of, false);
    while (pushed.end == push_end::socket_full || pushed.end == push_end::turn_over) {
        const bool has_turn = pushed.end == push_end::turn_over;
        std::error_code error;
        if (has_turn)
            error = co_await wait_for_turn(of, of.has_moved);
        else
            error = co_await wait_writable(of);
        if (error) co_return error;
        of.has_moved = false;  // others have gone first
        pushed = push(of, has_turn);
    }
    co_return pushed.error;
}

}  // namespace kevring::detail
