// sendfile.cpp: sendfile(2) in bounded steps, as long as the bytes are in the page cache.
#include <kevring/sendfile/detail/window_pool.hpp>
#include <kevring/sendfile/paths/paths.hpp>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace kevring::detail {
namespace {

// The reason why a sequence of direct calls has ended.
enum class push_end { all_sent, socket_full, budget_spent, other_path, failed };

struct push_result {
    push_end end;
    std::error_code error;

    static push_result of_errno(ssize_t negated_errno) noexcept {
        return {push_end::failed, {static_cast<int>(-negated_errno), std::system_category()}};
    }
};

// Errors of sendfile(2) for descriptors that it does not support.
bool is_unsupported_error(ssize_t answer) noexcept {
    return answer == -EINVAL || answer == -ENOSYS || answer == -EOPNOTSUPP || answer == -ESPIPE;
}

// Sends by direct calls that do not wait: header, trailer, and one window of the file if the transfer
// has a slot in this loop iteration (`has_slot`).
//
// The kernel does not copy: bytes written to the file between this call and the acknowledgement of
// the peer can reach the peer. check_version() before the last step detects earlier writes;
// options.force_copy is for files that are written in place.
push_result push(transfer& transfer, bool has_slot) {
    constexpr send_path path = send_path::sendfile;
    while (!transfer.plan.done()) {
        if (transfer.plan.in_header_or_trailer()) {
            const ssize_t sent = send_header_or_trailer_part(transfer);
            if (sent >= 0)
                transfer.record_sent(path, static_cast<std::uint64_t>(sent));
            else if (sent == -EAGAIN)
                return {push_end::socket_full, {}};
            else if (sent != -EINTR)
                return push_result::of_errno(sent);
            continue;
        }
        if (!has_slot) return {push_end::budget_spent, {}};
        if (!transfer.window_is_resident() && !transfer.forced()) return {push_end::other_path, {}};

        const std::uint64_t window_left = transfer.window_end() - transfer.plan.file_offset();
        const send_step step = transfer.plan.single(std::min<std::size_t>(
            static_cast<std::size_t>(window_left), transfer.step_bytes_max(sendfile_window_bytes)));
        if (step.ends_file)
            if (const std::error_code changed = transfer.check_version())
                return {push_end::failed, changed};

        auto offset = static_cast<off_t>(step.file_offset);
        const ssize_t sent = transfer.loop.system().send_file(
            transfer.socket.number(), transfer.file.number(), &offset, step.file_bytes);
        if (sent > 0) {
            transfer.record_sent(path, static_cast<std::uint64_t>(sent));
            charge_budget(transfer.loop, static_cast<std::size_t>(sent));
            transfer.moved_this_iteration = true;
            has_slot = false;
            // Short: the socket is full, or the file has ended, which the next call reports.
            if (static_cast<std::size_t>(sent) < step.file_bytes)
                return {push_end::socket_full, {}};
        } else if (sent == 0) {
            return {push_end::failed, send_errc::file_shrank};
        } else if (sent == -EAGAIN) {
            return {push_end::socket_full, {}};
        } else if (is_unsupported_error(sent)) {
            transfer.mark_unsupported(path);
            return {push_end::other_path, {}};
        } else if (sent != -EINTR) {
            if (sent == -EPIPE) discard_pending_sigpipe();
            return push_result::of_errno(sent);
        }
    }
    return {push_end::all_sent, {}};
}

}  // namespace

std::optional<std::error_code> try_run(transfer& transfer) {
    if (transfer.plan.done() || transfer.stopped()) return std::nullopt;
    const path_choice first = choose_path(transfer);
    if (first.row->path != send_path::sendfile || !budget_available(transfer) ||
        !transfer.may_call_directly())
        return std::nullopt;
    transfer.record_path(first.row->path, first.reason);
    block_sigpipe();
    const push_result pushed = push(transfer, true);
    if (pushed.end == push_end::all_sent) return std::error_code{};
    transfer.would_block = pushed.end == push_end::socket_full;
    transfer.sendfile_started = transfer.would_block || pushed.end == push_end::budget_spent;
    // run_to_end() may continue with a file that has become shorter.
    const bool continues = pushed.error == send_errc::file_shrank && transfer.options.stop_at_eof;
    if (pushed.end == push_end::failed && !continues) return pushed.error;
    return std::nullopt;
}

task<std::error_code> run_sendfile_path(transfer& transfer) {
    // On a blocking socket sendfile(2) would wait for the peer.
    if (!std::exchange(transfer.sendfile_started, false) && !transfer.may_call_directly()) {
        transfer.mark_unsupported(send_path::sendfile);
        co_return std::error_code{};
    }
    block_sigpipe();
    push_result pushed{push_end::socket_full, {}};
    if (!std::exchange(transfer.would_block, false)) pushed = push(transfer, false);
    while (pushed.end == push_end::socket_full || pushed.end == push_end::budget_spent) {
        const bool has_slot = pushed.end == push_end::budget_spent;
        std::error_code error;
        if (has_slot)
            error = co_await wait_for_budget(transfer, transfer.moved_this_iteration);
        else
            error = co_await wait_writable(transfer);
        if (error) co_return error;
        if (!transfer.may_still_call_directly()) {
            transfer.mark_unsupported(send_path::sendfile);
            co_return std::error_code{};
        }
        transfer.moved_this_iteration = false;  // other tasks have run
        pushed = push(transfer, has_slot);
    }
    co_return pushed.error;
}

}  // namespace kevring::detail
