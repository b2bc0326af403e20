#include <kevring/sendfile/send_file.hpp>

#include <kevring/runtime/assert.hpp>
#include <kevring/runtime/operations/advise.hpp>
#include <kevring/runtime/task_scope.hpp>
#include <kevring/sendfile/detail/transfer.hpp>
#include <kevring/sendfile/detail/window_pool.hpp>
#include <kevring/sendfile/paths/paths.hpp>

#include <algorithm>
#include <cerrno>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>

namespace kevring {
namespace {

std::error_code error_of(int negated_errno) noexcept {
    return {-negated_errno, std::system_category()};
}

// What has to be known of the file before the first byte: where the range ends, and, for transfers
// of several steps, which version it is.
struct opening {
    file_range range;
    std::error_code error;
    std::optional<file_version> found;
};

opening look_at_file(ring& on, fd_ref file, file_range range, const send_options& options) {
    opening seen{range, {}, {}};
    const bool open_ended = range.count == file_range::to_end || options.stop_at_end;
    // A small file with a known length is read in one go: a shorter one shows by itself.
    if (!open_ended && (options.expected || range.count <= detail::small_file_bytes)) return seen;
    struct stat status{};
    if (const int asked = on.system().stat_file(file.number(), status); asked < 0) {
        seen.error = error_of(asked);
        return seen;
    }
    const auto size = static_cast<std::uint64_t>(status.st_size);
    seen.found = file_version::of(status);
    if (!S_ISREG(status.st_mode)) {
        seen.error = error_of(S_ISDIR(status.st_mode) ? -EISDIR : -EINVAL);
    } else if (open_ended) {
        const std::uint64_t there = size > range.offset ? size - range.offset : 0;
        seen.range.count = std::min(range.count, there);
    } else if (range.offset + range.count > size) {
        seen.error = send_errc::file_shrank;
    }
    return seen;
}

task<void> give_hint(ring& on, fd_ref file, file_range range, int advice) {
    advise_operation advise(on, file, range.offset, range.count, advice);
    // A hint that is not taken costs time, not bytes: its failure is nobody's concern.
    static_cast<void>(co_await advise);
}

task<std::error_code> carry_all(detail::transfer& of) {
    while (!of.plan.done()) {
        if (const std::error_code error = of.stopped()) co_return error;
        std::error_code error;
        if (of.is_under_way) {
            error = co_await detail::carry_by_sendfile(of);
        } else {
            const detail::path_choice next = detail::choose_path(of);
            of.uses(next.row->path, next.reason);
            error = co_await next.row->carry(of);
        }
        if (error) co_return error;
    }
    co_return std::error_code{};
}

task<std::error_code> carry_to_end(detail::transfer& of) {
    std::error_code error;
    do {
        error = co_await carry_all(of);
        if (error != send_errc::file_shrank || !of.options.stop_at_end || of.options.expected)
            break;
        error = of.end_with_file();  // each time it is shorter, so this ends
    } while (!error);
    co_return error;
}

void finish_report(detail::transfer& of, std::error_code error) noexcept {
    of.report.bytes_sent = of.plan.bytes_sent();
    of.report.file_bytes = of.plan.file_sent();
    of.report.error = error;
}

}  // namespace

task<send_report> send_file(ring& on, fd_ref socket, fd_ref file, file_range range,
                            send_options options) {
    KEVRING_ASSERT(socket.valid(), "file sent to an invalid socket; pass a socket that is open");
    KEVRING_ASSERT(on.on_ring_thread(),
                   "send_file() called on a thread that does not drive the ring; call it in a task "
                   "of that ring");
    if (options.order != nullptr) {
        const result<void> entered = co_await options.order->enter(on);
        if (!entered) {
            send_report report;
            report.error = entered.error();
            co_return report;
        }
    }
    struct turn {  // left on every way out, also by an exception
        explicit turn(send_order* of) noexcept : of(of) {}
        turn(const turn&) = delete;
        turn& operator=(const turn&) = delete;
        ~turn() {
            if (of != nullptr) of->leave(error);
        }
        send_order* of;
        std::error_code error = std::make_error_code(std::errc::operation_canceled);
    } held(options.order);

    const opening seen = look_at_file(on, file, range, options);
    cancel_scope& scope = co_await current_scope();
    const send_plan plan(options.header.byte_count(), seen.range, options.trailer.byte_count());
    detail::transfer transfer(on, socket, file, plan, options, &scope);
    if (options.expected)
        transfer.expect(*options.expected, false);
    else if (seen.found)
        transfer.expect(*seen.found, true);

    std::error_code error = seen.error;
    if (!error) {
        if (options.hint == cache_hint::sequential)
            co_await give_hint(on, file, seen.range, POSIX_FADV_SEQUENTIAL);
        else if (options.hint == cache_hint::will_need)
            co_await give_hint(on, file, seen.range, POSIX_FADV_WILLNEED);
        // Frames of coroutines that would never suspend are a tenth of what 64 KiB cost.
        if (const std::optional<std::error_code> ended = detail::carry_at_once(transfer))
            error = *ended;
        else
            error = co_await carry_to_end(transfer);
        if (options.hint == cache_hint::drop_after)
            co_await give_hint(on, file, seen.range, POSIX_FADV_DONTNEED);
    }
    finish_report(transfer, error);
    // A transfer that failed before its first byte leaves the stream as it was.
    held.error = transfer.report.bytes_sent > 0 ? error : std::error_code{};
    co_return transfer.report;
}

send_report try_send_file(ring& on, fd_ref socket, fd_ref file, file_range range,
                          const send_options& options) {
    KEVRING_ASSERT(socket.valid(), "file sent to an invalid socket; pass a socket that is open");
    KEVRING_ASSERT(on.on_ring_thread(),
                   "send_file() called on a thread that does not drive the ring; call it in a task "
                   "of that ring");
    const bool may_wait = options.order != nullptr || options.bytes_per_second_max != 0 ||
                          options.hint != cache_hint::none;
    const bool fits = range.count > detail::small_file_bytes && range.count <= at_once_bytes_max;
    static_assert(at_once_bytes_max <= detail::window_bytes);
    if (may_wait || !fits || !options.expected) {
        send_report nothing;
        nothing.error = std::make_error_code(std::errc::operation_would_block);
        return nothing;
    }
    const send_plan plan(options.header.byte_count(), range, options.trailer.byte_count());
    detail::transfer transfer(on, socket, file, plan, options, nullptr);
    transfer.expect(*options.expected, false);
    const std::optional<std::error_code> ended = detail::carry_at_once(transfer);
    finish_report(transfer,
                  ended ? *ended : std::make_error_code(std::errc::operation_would_block));
    return transfer.report;
}

}  // namespace kevring
