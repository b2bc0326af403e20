#include <kevring/sendfile/detail/transfer.hpp>

#include <kevring/runtime/operations/poll.hpp>
#include <kevring/runtime/operations/read.hpp>
#include <kevring/runtime/operations/send.hpp>
#include <kevring/runtime/sleep.hpp>
#include <kevring/sendfile/detail/window_pool.hpp>
#include <kevring/sendfile/send_turn.hpp>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <memory>
#include <utility>

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

namespace kevring::detail {
namespace {

// An answer about the page cache is good for so long: memory is not reclaimed that fast.
constexpr std::int64_t answer_lasts_ns = 10'000'000;

std::size_t page_bytes() noexcept {
    static const auto bytes = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    return bytes;
}

// Whether the bytes of a part of a file can be had without waiting.
//
// cachestat(2) is exact about holes, and counts pages that the disk is still filling; the last byte
// of a window is the last of them to come, and a read that may not wait tells. Kernels before 6.5
// have only such reads: then the window is sampled as densely as a disk is read ahead.
bool is_resident(ring& on, fd_ref file, std::uint64_t begin, std::uint64_t end) noexcept {
    const auto readable_now = [&](std::uint64_t offset) noexcept {
        std::byte one{};
        const iovec part{&one, 1};
        return on.system().read_nowait(file.number(), &part, 1, static_cast<off_t>(offset));
    };
    const ssize_t last = readable_now(end - 1);
    if (last == -EAGAIN || last == 0) return false;  // absent, or the file has shrunk
    const std::uint64_t first_page = begin / page_bytes();
    const std::uint64_t page_count = (end - 1) / page_bytes() - first_page + 1;
    const ssize_t cached = on.system().resident_pages(file.number(), begin, end - begin);
    if (cached >= 0) return static_cast<std::uint64_t>(cached) >= page_count;
    if (last < 0) return false;  // neither question is understood here: nobody can tell
    constexpr std::uint64_t stride = 32 * 1024;
    for (std::uint64_t at = begin; at < end; at += stride)
        if (readable_now(at) <= 0) return false;
    return true;
}

}  // namespace

bool transfer::all_in_one_send() const noexcept {
    return plan.file_left() <= small_file_bytes && plan.bytes_left() <= window_bytes &&
           step_bytes_max(small_file_bytes) >= plan.file_left();
}

bool transfer::window_is_resident(std::uint64_t file_offset) noexcept {
    if (file_offset >= window_begin_ && file_offset < window_end_) return window_resident_;
    if (file_offset >= plan.file_end()) return true;  // no byte that could be absent
    window_begin_ = file_offset;
    window_end_ = std::min<std::uint64_t>(plan.file_end(), file_offset + sendfile_window_bytes);
    // The memo speaks of windows as a transfer of a whole file has them.
    file_memo* const known = memo();
    const std::int64_t now_ns = known != nullptr ? on.recent_ns() : 0;
    if (known != nullptr && known->holds(window_begin_, now_ns)) return window_resident_ = true;
    window_resident_ = is_resident(on, file, window_begin_, window_end_);
    if (!window_resident_ && window_end_ - window_begin_ > window_bytes) {
        window_end_ = window_begin_ + window_bytes;  // the part before a page that is absent
        window_resident_ = is_resident(on, file, window_begin_, window_end_);
    }
    const bool all_of_it = window_end_ - window_begin_ == sendfile_window_bytes ||
                           (options.expected && window_end_ == options.expected->byte_count);
    if (known != nullptr && window_resident_ && all_of_it) known->note(window_begin_, now_ns);
    return window_resident_;
}

void transfer::taken(send_path path, std::uint64_t count) noexcept {
    const std::uint64_t before = plan.file_sent();
    plan.advance(count);
    report.path_bytes[static_cast<std::size_t>(path)] += plan.file_sent() - before;
}

void transfer::uses(send_path path, send_reason reason) noexcept {
    if (path != last_path_ && plan.file_sent() > 0) ++report.path_changes;
    last_path_ = path;
    forced_ = reason == send_reason::forced;
    report.path_reasons[static_cast<std::size_t>(path)] = reason;
}

void transfer::expect(const file_version& version, bool seen_now) noexcept {
    version_ = version;
    watched_ = true;
    seen_at_ = seen_now ? on.moment() : 0;
}

std::error_code transfer::check_version() noexcept {
    const std::uint64_t moment = on.moment();
    if (!watched_ || (seen_at_ != 0 && seen_at_ == moment)) return {};
    file_memo* const known = memo();
    if (known != nullptr && known->unchanged_at(moment)) return {};
    struct stat status{};
    if (const int asked = on.system().stat_file(file.number(), status); asked < 0)
        return {-asked, std::system_category()};
    const file_version now = file_version::of(status);
    if (now == version_) {
        if (known != nullptr) known->note_unchanged(moment);
        return {};
    }
    if (now.byte_count < plan.file_end()) return send_errc::file_shrank;
    if (options.may_grow && now.byte_count > version_.byte_count) return {};
    // Cut behind the range, for a transfer that bears to be cut in it.
    if (options.stop_at_end && !options.expected && now.byte_count < version_.byte_count) return {};
    return send_errc::file_changed;
}

std::error_code transfer::end_with_file() noexcept {
    struct stat status{};
    if (const int asked = on.system().stat_file(file.number(), status); asked < 0)
        return {-asked, std::system_category()};
    const file_version now = file_version::of(status);
    // As long as before: it was cut, and then written to; or its size is not that of its content.
    if (now.byte_count >= plan.file_end())
        return now == version_ ? std::make_error_code(std::errc::invalid_argument)
                               : make_error_code(send_errc::file_changed);
    plan.end_file_at(now.byte_count);
    expect(now, true);
    forget_window();
    return {};
}

bool transfer::may_call_directly() noexcept {
    if (options.is_nonblocking) return true;
    kernel& system = on.system();
    if (!options.keep_blocking) return system.make_nonblocking(socket.number()) >= 0;
    const int flags = system.status_flags(socket.number());
    return flags >= 0 && (flags & O_NONBLOCK) != 0;
}

std::error_code transfer::stopped() const noexcept {
    switch (scope != nullptr ? scope->cause() : stop_cause::none) {
        case stop_cause::none: return {};
        case stop_cause::stopped: return std::make_error_code(std::errc::operation_canceled);
        case stop_cause::deadline: return std::make_error_code(std::errc::timed_out);
    }
    return {};
}

message_parts::message_parts(const transfer& of, const send_step& step,
                             std::span<const std::byte> file_bytes) noexcept {
    add(of.options.header, of.plan.header_sent(), step.header_bytes);
    if (byte_count_ < step.header_bytes) return;  // the rest goes with the next message
    add(file_bytes);
    add(of.options.trailer, of.plan.trailer_sent(), step.trailer_bytes);
}

void message_parts::add(std::span<const std::byte> bytes) noexcept {
    if (bytes.empty() || count_ == parts_.size()) return;
    parts_[count_++] = iovec{const_cast<std::byte*>(bytes.data()), bytes.size()};
    byte_count_ += bytes.size();
}

void message_parts::add(const send_buffers& buffers, std::size_t skip, std::size_t count) noexcept {
    for (std::size_t i = 0; i < buffers.size() && count > 0; ++i) {
        std::span<const std::byte> bytes = buffers[i];
        const std::size_t skipped = std::min(skip, bytes.size());
        skip -= skipped;
        bytes = bytes.subspan(skipped);
        bytes = bytes.first(std::min(count, bytes.size()));
        if (bytes.empty()) continue;
        if (count_ == parts_.size()) return;
        count -= bytes.size();
        add(bytes);
    }
}

task<std::error_code> send_from_memory(transfer& of, send_path path, send_step step,
                                       std::span<const std::byte> file_bytes) {
    KEVRING_ASSERT(file_bytes.size() == step.file_bytes,
                   "internal error: a step with other bytes than planned; report it with the call "
                   "that led to it");
    const std::uint64_t begin_of_file = of.plan.file_sent();
    const std::uint64_t end = of.plan.bytes_sent() + step.byte_count();
    while (of.plan.bytes_sent() < end) {
        const auto done = static_cast<std::size_t>(of.plan.file_sent() - begin_of_file);
        const std::span<const std::byte> rest = file_bytes.subspan(done);
        const send_step now = of.plan.gathered(rest.size());
        message_parts message(of, now, rest);
        const bool more = step.more || message.byte_count() < end - of.plan.bytes_sent();
        const int flags = more ? MSG_MORE : 0;
        send_result sent;
        if (message.parts().size() == 1) {
            const iovec& part = message.parts().front();
            const std::span bytes(static_cast<const std::byte*>(part.iov_base), part.iov_len);
            send_operation send(of.on, of.socket, bytes, flags);
            sent = co_await send;
        } else {
            msghdr header{};
            header.msg_iov = message.parts().data();
            header.msg_iovlen = message.parts().size();
            send_message_operation send(of.on, of.socket, header, flags);
            sent = co_await send;
        }
        of.taken(path, sent.bytes_sent());
        if (!sent) co_return sent.error();
    }
    co_return std::error_code{};
}

ssize_t send_frame_part(transfer& of) noexcept {
    const send_step step = of.plan.single(0);
    message_parts message(of, step, {});
    const bool more = step.more || message.byte_count() < step.byte_count();
    msghdr header{};
    header.msg_iov = message.parts().data();
    header.msg_iovlen = message.parts().size();
    return of.on.system().send_now(of.socket.number(), header, more ? MSG_MORE : 0);
}

task<std::error_code> send_frame_now(transfer& of, send_path path, send_step step) {
    KEVRING_ASSERT(step.file_bytes == 0,
                   "internal error: a header step with bytes of the file; report it with the call "
                   "that led to it");
    const std::uint64_t end = of.plan.bytes_sent() + step.byte_count();
    while (of.plan.bytes_sent() < end) {
        const ssize_t sent = send_frame_part(of);
        if (sent >= 0) {
            of.taken(path, static_cast<std::uint64_t>(sent));
        } else if (sent == -EAGAIN) {
            const std::error_code error = co_await wait_writable(of);
            if (error) co_return error;
        } else if (sent != -EINTR) {
            co_return std::error_code(static_cast<int>(-sent), std::system_category());
        }
    }
    co_return std::error_code{};
}

task<std::error_code> read_all(transfer& of, std::span<std::byte> into, std::uint64_t file_offset,
                               const fixed_buffer* fixed) {
    while (!into.empty()) {
        result<std::size_t> got;
        if (fixed != nullptr) {
            read_fixed_operation read(of.on, of.file, *fixed, into, file_offset);
            got = co_await read;
        } else {
            read_operation read(of.on, of.file, into, file_offset);
            got = co_await read;
        }
        if (!got) {
            if (got.error() == std::errc::interrupted) continue;
            co_return got.error();
        }
        if (*got == 0) co_return send_errc::file_shrank;
        into = into.subspan(*got);
        file_offset += *got;
    }
    co_return std::error_code{};
}

task<std::error_code> wait_writable(transfer& of) {
    const std::int64_t begin_ns = of.on.now_ns();
    poll_operation poll(of.on, of.socket, POLLOUT);
    const result<std::uint32_t> ready = co_await poll;
    if (of.on.now_ns() - begin_ns > answer_lasts_ns) of.forget_window();
    // A broken connection is "ready" as well: the next send says how it broke.
    co_return ready ? std::error_code{} : ready.error();
}

task<std::error_code> wait_for_turn(transfer& of, bool has_moved) {
    if (of.pace.limited()) {
        const std::int64_t due_ns = of.pace.due_ns(of.plan.bytes_sent());
        if (due_ns > of.on.now_ns()) {
            sleep_operation sleep(of.on, due_ns);
            const result<void> slept = co_await sleep;
            if (!slept) co_return slept.error();
            of.forget_window();
        }
    } else if (has_moved || !turn_is_free(of)) {
        send_turn turn(of.on);
        co_await turn;
    }
    co_return of.stopped();
}

bool turn_is_free(const transfer& of) { return !of.pace.limited() && send_turn::is_free(of.on); }

void quiet_broken_pipes() noexcept {
    thread_local bool quiet = false;
    if (quiet) [[likely]]
        return;
    quiet = true;
    struct sigaction now{};
    ::sigaction(SIGPIPE, nullptr, &now);
    if (now.sa_handler == SIG_IGN) return;
    sigset_t only{};
    sigemptyset(&only);
    sigaddset(&only, SIGPIPE);
    ::pthread_sigmask(SIG_BLOCK, &only, nullptr);
}

void forget_broken_pipe() noexcept {
    struct sigaction now{};
    ::sigaction(SIGPIPE, nullptr, &now);
    if (now.sa_handler == SIG_IGN) return;
    sigset_t only{};
    sigemptyset(&only);
    sigaddset(&only, SIGPIPE);
    const timespec at_once{};
    const int saved_errno = errno;
    static_cast<void>(::sigtimedwait(&only, nullptr, &at_once));
    errno = saved_errno;
}

}  // namespace kevring::detail
