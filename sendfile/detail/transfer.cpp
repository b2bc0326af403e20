#include <kevring/sendfile/detail/transfer.hpp>

#include <kevring/runtime/operations/poll.hpp>
#include <kevring/runtime/operations/read.hpp>
#include <kevring/runtime/operations/send.hpp>
#include <kevring/runtime/sleep.hpp>
#include <kevring/sendfile/detail/window_pool.hpp>
#include <kevring/sendfile/send_budget.hpp>

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

// Validity of an answer about the page cache: the kernel does not reclaim memory faster.
constexpr std::int64_t residency_ttl_ns = 10'000'000;

std::size_t page_bytes() noexcept {
    static const auto bytes = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    return bytes;
}

// True if a part of a file can be read without a wait for the disk.
//
// cachestat(2) reports absent pages exactly, but counts pages that the disk still fills. The disk
// fills the last byte of a window last, so a read of it with RWF_NOWAIT detects them. Kernels before
// 6.5 have only such reads: they sample the window in steps of the usual read-ahead.
bool is_resident(ring& loop, fd_ref file, std::uint64_t begin, std::uint64_t end) noexcept {
    const auto readable_now = [&](std::uint64_t offset) noexcept {
        std::byte one{};
        const iovec part{&one, 1};
        return loop.system().read_nowait(file.number(), &part, 1, static_cast<off_t>(offset));
    };
    const ssize_t last = readable_now(end - 1);
    if (last == -EAGAIN || last == 0) return false;  // absent, or the file has shrunk
    const std::uint64_t first_page = begin / page_bytes();
    const std::uint64_t page_count = (end - 1) / page_bytes() - first_page + 1;
    const ssize_t cached = loop.system().resident_pages(file.number(), begin, end - begin);
    if (cached >= 0) return static_cast<std::uint64_t>(cached) >= page_count;
    if (last < 0) return false;  // this file system answers neither query
    constexpr std::uint64_t stride = 32 * 1024;
    for (std::uint64_t offset = begin; offset < end; offset += stride)
        if (readable_now(offset) <= 0) return false;
    return true;
}

// The cache of a file's state knows blocks of window_bytes, whole or up to the end of the file.
std::uint64_t block_begin(std::uint64_t offset) noexcept { return offset - offset % window_bytes; }

bool is_known_resident(const file_state_cache& known, std::uint64_t begin, std::uint64_t end,
                       std::int64_t now_ns) noexcept {
    for (std::uint64_t offset = block_begin(begin); offset < end; offset += window_bytes)
        if (!known.is_resident(offset, now_ns)) return false;
    return true;
}

void record_blocks(file_state_cache& known, std::uint64_t begin, std::uint64_t end,
                   std::uint64_t file_bytes, std::int64_t now_ns) noexcept {
    std::uint64_t offset = block_begin(begin);
    if (offset < begin) offset += window_bytes;
    for (; offset < end && (offset + window_bytes <= end || end == file_bytes);
         offset += window_bytes)
        known.record_resident(offset, now_ns);
}

}  // namespace

bool transfer::all_in_one_send() const noexcept {
    return plan.file_left() <= small_file_bytes && plan.bytes_left() <= window_bytes &&
           step_bytes_max(small_file_bytes) >= plan.file_left();
}

bool transfer::window_is_resident(std::uint64_t file_offset) noexcept {
    if (file_offset >= window_begin_ && file_offset < window_end_) return window_resident_;
    if (file_offset >= plan.file_end()) return true;  // no byte that could be absent
    // The window ends at the end of a block, so that the next one begins with a block.
    window_begin_ = file_offset;
    window_end_ =
        std::min<std::uint64_t>(plan.file_end(), block_begin(file_offset) + sendfile_window_bytes);
    file_state_cache* const known = state_cache();
    const std::int64_t now_ns = known != nullptr ? loop.cached_now_ns() : 0;
    if (known != nullptr && is_known_resident(*known, window_begin_, window_end_, now_ns))
        return window_resident_ = true;
    window_resident_ = is_resident(loop, file, window_begin_, window_end_);
    if (!window_resident_ && window_end_ - window_begin_ > window_bytes) {
        window_end_ = window_begin_ + window_bytes;  // perhaps the part before an absent page
        window_resident_ = is_resident(loop, file, window_begin_, window_end_);
    }
    if (known != nullptr && window_resident_)
        record_blocks(*known, window_begin_, window_end_, options.expected->byte_count, now_ns);
    return window_resident_;
}

void transfer::record_sent(send_path path, std::uint64_t count) noexcept {
    const std::uint64_t before = plan.file_sent();
    plan.advance(count);
    report.path_bytes[static_cast<std::size_t>(path)] += plan.file_sent() - before;
}

void transfer::record_path(send_path path, send_reason reason) noexcept {
    if (path != last_path_ && plan.file_sent() > 0) ++report.path_changes;
    last_path_ = path;
    forced_ = reason == send_reason::forced;
    report.path_reasons[static_cast<std::size_t>(path)] = reason;
}

void transfer::expect_version(const file_version& version, bool seen_now) noexcept {
    version_ = version;
    watched_ = true;
    seen_at_ = seen_now ? loop.generation() : 0;
}

std::error_code transfer::check_version() noexcept {
    const std::uint64_t generation = loop.generation();
    if (!watched_ || (seen_at_ != 0 && seen_at_ == generation)) return {};
    file_state_cache* const known = state_cache();
    if (known != nullptr && known->unchanged_since(generation)) return {};
    struct stat status{};
    if (const int asked = loop.system().stat_file(file.number(), status); asked < 0)
        return {-asked, std::system_category()};
    const file_version now = file_version::from_stat(status);
    if (now == version_) {
        if (known != nullptr) known->record_unchanged(generation);
        return {};
    }
    if (now.byte_count < plan.file_end()) return send_errc::file_shrank;
    if (options.allow_growth && now.byte_count > version_.byte_count) return {};
    // Truncated after the range, for a transfer that accepts a truncation within it.
    if (options.stop_at_eof && !options.expected && now.byte_count < version_.byte_count) return {};
    return send_errc::file_changed;
}

std::error_code transfer::end_at_eof() noexcept {
    struct stat status{};
    if (const int asked = loop.system().stat_file(file.number(), status); asked < 0)
        return {-asked, std::system_category()};
    const file_version now = file_version::from_stat(status);
    // Not shorter: truncated and written again, or the size is not that of the content.
    if (now.byte_count >= plan.file_end())
        return now == version_ ? std::make_error_code(std::errc::invalid_argument)
                               : make_error_code(send_errc::file_changed);
    plan.end_file_at(now.byte_count);
    expect_version(now, true);
    invalidate_window();
    return {};
}

bool transfer::may_call_directly() noexcept {
    if (options.is_nonblocking) return true;
    kernel& system = loop.system();
    if (!options.keep_blocking) return system.set_nonblocking(socket.number()) >= 0;
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

message_parts::message_parts(const transfer& transfer, const send_step& step,
                             std::span<const std::byte> file_bytes) noexcept {
    add(transfer.options.header, transfer.plan.header_sent(), step.header_bytes);
    if (byte_count_ < step.header_bytes) return;  // the rest is in the next message
    add(file_bytes);
    add(transfer.options.trailer, transfer.plan.trailer_sent(), step.trailer_bytes);
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

task<std::error_code> send_from_memory(transfer& transfer, send_path path, send_step step,
                                       std::span<const std::byte> file_bytes) {
    KEVRING_ASSERT(file_bytes.size() == step.file_bytes,
                   "internal error: a step with other bytes than planned; report it with the call "
                   "that led to it");
    const std::uint64_t begin_of_file = transfer.plan.file_sent();
    const std::uint64_t end = transfer.plan.bytes_sent() + step.byte_count();
    while (transfer.plan.bytes_sent() < end) {
        const auto done = static_cast<std::size_t>(transfer.plan.file_sent() - begin_of_file);
        const std::span<const std::byte> rest = file_bytes.subspan(done);
        const send_step now = transfer.plan.gathered(rest.size());
        message_parts message(transfer, now, rest);
        const bool more = step.more || message.byte_count() < end - transfer.plan.bytes_sent();
        const int flags = more ? MSG_MORE : 0;
        send_result sent;
        if (message.parts().size() == 1) {
            const iovec& part = message.parts().front();
            const std::span bytes(static_cast<const std::byte*>(part.iov_base), part.iov_len);
            send_operation send(transfer.loop, transfer.socket, bytes, flags);
            sent = co_await send;
        } else {
            msghdr header{};
            header.msg_iov = message.parts().data();
            header.msg_iovlen = message.parts().size();
            send_message_operation send(transfer.loop, transfer.socket, header, flags);
            sent = co_await send;
        }
        transfer.record_sent(path, sent.bytes_sent());
        if (!sent) co_return sent.error();
    }
    co_return std::error_code{};
}

ssize_t send_header_or_trailer_part(transfer& transfer) noexcept {
    const send_step step = transfer.plan.single(0);
    message_parts message(transfer, step, {});
    const bool more = step.more || message.byte_count() < step.byte_count();
    msghdr header{};
    header.msg_iov = message.parts().data();
    header.msg_iovlen = message.parts().size();
    return transfer.loop.system().sendmsg_nowait(transfer.socket.number(), header,
                                                 more ? MSG_MORE : 0);
}

task<std::error_code> send_header_or_trailer_nowait(transfer& transfer, send_path path,
                                                    send_step step) {
    KEVRING_ASSERT(step.file_bytes == 0,
                   "internal error: a header step with bytes of the file; report it with the call "
                   "that led to it");
    const std::uint64_t end = transfer.plan.bytes_sent() + step.byte_count();
    while (transfer.plan.bytes_sent() < end) {
        const ssize_t sent = send_header_or_trailer_part(transfer);
        if (sent >= 0) {
            transfer.record_sent(path, static_cast<std::uint64_t>(sent));
        } else if (sent == -EAGAIN) {
            const std::error_code error = co_await wait_writable(transfer);
            if (error) co_return error;
        } else if (sent != -EINTR) {
            co_return std::error_code(static_cast<int>(-sent), std::system_category());
        }
    }
    co_return std::error_code{};
}

task<std::error_code> read_all(transfer& transfer, std::span<std::byte> buffer,
                               std::uint64_t file_offset, const fixed_buffer* fixed) {
    while (!buffer.empty()) {
        result<std::size_t> got;
        if (fixed != nullptr) {
            read_fixed_operation read(transfer.loop, transfer.file, *fixed, buffer, file_offset);
            got = co_await read;
        } else {
            read_operation read(transfer.loop, transfer.file, buffer, file_offset);
            got = co_await read;
        }
        if (!got) {
            if (got.error() == std::errc::interrupted) continue;
            co_return got.error();
        }
        if (*got == 0) co_return send_errc::file_shrank;
        buffer = buffer.subspan(*got);
        file_offset += *got;
    }
    co_return std::error_code{};
}

task<std::error_code> wait_writable(transfer& transfer) {
    const std::int64_t begin_ns = transfer.loop.now_ns();
    poll_operation poll(transfer.loop, transfer.socket, POLLOUT);
    const result<std::uint32_t> ready = co_await poll;
    if (transfer.loop.now_ns() - begin_ns > residency_ttl_ns) transfer.invalidate_window();
    // A broken connection is writable too: the next send returns its error.
    co_return ready ? std::error_code{} : ready.error();
}

task<std::error_code> wait_for_budget(transfer& transfer, bool moved_this_iteration) {
    if (transfer.pace.limited()) {
        const std::int64_t due_ns = transfer.pace.due_ns(transfer.plan.bytes_sent());
        if (due_ns > transfer.loop.now_ns()) {
            sleep_operation sleep(transfer.loop, due_ns);
            const result<void> slept = co_await sleep;
            if (!slept) co_return slept.error();
            transfer.invalidate_window();
        }
    } else if (moved_this_iteration || !budget_available(transfer)) {
        send_budget share(transfer.loop);
        co_await share;
    }
    co_return transfer.stopped();
}

bool budget_available(const transfer& transfer) {
    return !transfer.pace.limited() && send_budget::available(transfer.loop);
}

// Asks each time: the program may ignore SIGPIPE now and no longer later, or set an older mask. Two system
// calls beside a sendfile(2) or splice(2).
void block_sigpipe() noexcept {
    struct sigaction now{};
    ::sigaction(SIGPIPE, nullptr, &now);
    if (now.sa_handler == SIG_IGN) return;
    sigset_t only{};
    sigemptyset(&only);
    sigaddset(&only, SIGPIPE);
    ::pthread_sigmask(SIG_BLOCK, &only, nullptr);
}

void discard_pending_sigpipe() noexcept {
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
