#include <kevring/sendfile/send_file.hpp>

#include <kevring/runtime/assert.hpp>
#include <kevring/runtime/operations/advise.hpp>
#include <kevring/runtime/operations/read.hpp>
#include <kevring/runtime/task_scope.hpp>
#include <kevring/sendfile/detail/transfer.hpp>
#include <kevring/sendfile/detail/window_pool.hpp>
#include <kevring/sendfile/paths/paths.hpp>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <limits>
#include <span>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>

namespace kevring {
namespace {

std::error_code error_of(int negated_errno) noexcept {
    return {-negated_errno, std::system_category()};
}

send_report failed_report(std::errc error) noexcept {
    send_report report;
    report.error = std::make_error_code(error);
    return report;
}

// The largest offset of a file (off_t).
constexpr std::uint64_t offset_max = std::numeric_limits<std::int64_t>::max();

// A range that no file can have, or a header and trailer that no memory can hold.
bool is_out_of_bounds(file_range range, const send_options& options) noexcept {
    if (range.offset > offset_max) return true;
    const bool is_bounded = range.count != file_range::to_end && !options.stop_at_eof;
    if (is_bounded && range.count > offset_max - range.offset) return true;
    const std::size_t header_bytes = options.header.byte_count();
    return header_bytes > SSIZE_MAX || options.trailer.byte_count() > SSIZE_MAX - header_bytes;
}

// The state of the file before the first byte: the end of the range and, for transfers of several
// steps, the version.
struct opening {
    file_range range;
    std::error_code error;
    std::optional<file_version> found;
    bool may_have_wrong_size = false;  // no block of a disk holds its bytes
};

opening failed_opening(file_range range, std::error_code error) { return {range, error, {}}; }

// Files of proc(5) report a size of 0 and have content; those of sysfs report 4096 and have less. A
// read of one byte tells them from empty and sparse files. A worker thread of the kernel waits for
// it, not the loop.
task<std::error_code> reject_wrong_size(ring& loop, fd_ref file, std::uint64_t size) {
    std::byte byte{};
    const iovec part{&byte, 1};
    const std::uint64_t offset = size == 0 ? 0 : size - 1;
    ssize_t count = loop.system().read_nowait(file.number(), &part, 1, static_cast<off_t>(offset));
    if (count == -EOPNOTSUPP || count == -EAGAIN) {
        read_operation read(loop, file, std::span(&byte, 1), offset);
        const result<std::size_t> received = co_await read;
        if (!received) co_return received.error();
        count = static_cast<ssize_t>(*received);
    }
    if (count < 0) co_return error_of(static_cast<int>(count));
    if ((count > 0) == (size > 0)) co_return std::error_code{};
    struct stat status{};  // again: the file may have grown or shrunk in the meantime
    if (const int asked = loop.system().stat_file(file.number(), status); asked < 0)
        co_return error_of(asked);
    const bool is_as_before = static_cast<std::uint64_t>(status.st_size) == size;
    co_return is_as_before ? error_of(-EINVAL) : std::error_code{};
}

// True if the options already contain the state of the file.
bool is_known(file_range range, const send_options& options) noexcept {
    const bool open_ended = range.count == file_range::to_end || options.stop_at_eof;
    return options.expected && !open_ended &&
           range.offset + range.count <= options.expected->byte_count;
}

opening open_range(ring& loop, fd_ref file, file_range range, const send_options& options) {
    struct stat status{};
    if (const int asked = loop.system().stat_file(file.number(), status); asked < 0)
        return failed_opening(range, error_of(asked));
    if (!S_ISREG(status.st_mode))
        return failed_opening(range, error_of(S_ISDIR(status.st_mode) ? -EISDIR : -EINVAL));
    opening opened{
        range, {}, file_version::from_stat(status), status.st_blocks == 0 && range.count > 0};
    const auto size = static_cast<std::uint64_t>(status.st_size);
    const std::uint64_t rest = size > range.offset ? size - range.offset : 0;
    if (range.count == file_range::to_end || options.stop_at_eof)
        opened.range.count = std::min(range.count, rest);
    else if (range.count > rest)
        opened.error = send_errc::file_shrank;
    return opened;
}

task<void> give_hint(ring& loop, fd_ref file, file_range range, int advice) {
    advise_operation advise(loop, file, range.offset, range.count, advice);
    // Advice that the kernel ignores costs time, not bytes: its failure is not an error.
    static_cast<void>(co_await advise);
}

task<std::error_code> run_all_paths(detail::transfer& transfer) {
    while (!transfer.plan.done()) {
        if (const std::error_code error = transfer.stopped()) co_return error;
        std::error_code error;
        if (transfer.sendfile_started) {
            error = co_await detail::run_sendfile_path(transfer);
        } else {
            const detail::path_choice next = detail::choose_path(transfer);
            transfer.record_path(next.row->path, next.reason);
            error = co_await next.row->carry(transfer);
        }
        if (error) co_return error;
    }
    co_return std::error_code{};
}

task<std::error_code> run_to_end(detail::transfer& transfer) {
    std::error_code error;
    do {
        error = co_await run_all_paths(transfer);
        if (error != send_errc::file_shrank || !transfer.options.stop_at_eof ||
            transfer.options.expected)
            break;
        error = transfer.end_at_eof();  // the file is shorter in each pass, so this ends
    } while (!error);
    co_return error;
}

void finish_report(detail::transfer& transfer, std::error_code error) noexcept {
    transfer.report.bytes_sent = transfer.plan.bytes_sent();
    transfer.report.file_bytes = transfer.plan.file_sent();
    transfer.report.error = error;
}

}  // namespace

task<send_report> send_file(ring& loop, fd_ref socket, fd_ref file, file_range range,
                            send_options options) {
    if (loop.created_by_parent_process())
        co_return failed_report(std::errc::operation_not_permitted);
    KEVRING_ASSERT(socket.valid(), "file sent to an invalid socket; pass a socket that is open");
    KEVRING_ASSERT(loop.on_ring_thread(),
                   "send_file() called on a thread that does not drive the ring; call it in a task "
                   "of that ring");
    if (is_out_of_bounds(range, options)) co_return failed_report(std::errc::invalid_argument);
    if (options.queue != nullptr) {
        const result<void> entered = co_await options.queue->acquire(loop);
        if (!entered) {
            send_report report;
            report.error = entered.error();
            co_return report;
        }
    }
    struct slot {  // released on return and by an exception
        explicit slot(send_queue* acquired) noexcept : queue(acquired) {}
        slot(const slot&) = delete;
        slot& operator=(const slot&) = delete;
        ~slot() {
            if (queue != nullptr) queue->release(error);
        }
        send_queue* queue;
        std::error_code error = std::make_error_code(std::errc::operation_canceled);
    } held(options.queue);

    opening seen =
        is_known(range, options) ? opening{range, {}, {}} : open_range(loop, file, range, options);
    if (seen.may_have_wrong_size) {
        const std::error_code wrong_size =
            co_await reject_wrong_size(loop, file, seen.found->byte_count);
        if (wrong_size) seen.error = wrong_size;
    }
    cancel_scope& scope = co_await current_scope();
    const send_plan plan(options.header.byte_count(), seen.range, options.trailer.byte_count());
    detail::transfer transfer(loop, socket, file, plan, options, &scope);
    if (options.expected)
        transfer.expect_version(*options.expected, false);
    else if (seen.found)
        transfer.expect_version(*seen.found, true);

    std::error_code error = seen.error;
    if (!error) {
        if (options.hint == cache_hint::sequential)
            co_await give_hint(loop, file, seen.range, POSIX_FADV_SEQUENTIAL);
        else if (options.hint == cache_hint::will_need)
            co_await give_hint(loop, file, seen.range, POSIX_FADV_WILLNEED);
        // The frames of coroutines that would never suspend cost a tenth of a transfer of 64 KiB.
        if (const std::optional<std::error_code> ended = detail::try_run(transfer))
            error = *ended;
        else
            error = co_await run_to_end(transfer);
        if (options.hint == cache_hint::drop_after)
            co_await give_hint(loop, file, seen.range, POSIX_FADV_DONTNEED);
    }
    finish_report(transfer, error);
    // A transfer that failed before its first byte has not changed the stream.
    held.error = transfer.report.bytes_sent > 0 ? error : std::error_code{};
    co_return transfer.report;
}

send_report try_send_file(ring& loop, fd_ref socket, fd_ref file, file_range range,
                          const send_options& options) {
    if (loop.created_by_parent_process()) return failed_report(std::errc::operation_not_permitted);
    KEVRING_ASSERT(socket.valid(), "file sent to an invalid socket; pass a socket that is open");
    KEVRING_ASSERT(loop.on_ring_thread(),
                   "send_file() called on a thread that does not drive the ring; call it in a task "
                   "of that ring");
    const bool may_wait = options.queue != nullptr || options.bytes_per_second_max != 0 ||
                          options.hint != cache_hint::none;
    const bool fits = range.count > detail::small_file_bytes && range.count <= try_send_bytes_max;
    static_assert(try_send_bytes_max <= detail::window_bytes);
    if (is_out_of_bounds(range, options)) return failed_report(std::errc::invalid_argument);
    if (may_wait || !fits || !is_known(range, options))
        return failed_report(std::errc::operation_would_block);
    const send_plan plan(options.header.byte_count(), range, options.trailer.byte_count());
    detail::transfer transfer(loop, socket, file, plan, options, nullptr);
    transfer.expect_version(*options.expected, false);
    const std::optional<std::error_code> ended = detail::try_run(transfer);
    finish_report(transfer,
                  ended ? *ended : std::make_error_code(std::errc::operation_would_block));
    return transfer.report;
}

}  // namespace kevring
